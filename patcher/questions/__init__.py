"""One module per question. `ask()` reads, and returns an Answer."""
