"""What we know and remember: nouns. Imports the standard library only."""
