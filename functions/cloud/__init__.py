"""How we reach Azure: raw facts, no decisions and no remedies."""
