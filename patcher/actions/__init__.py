"""One module per kind of command that changes something: words → what is about to be done (acting.Deed)."""
