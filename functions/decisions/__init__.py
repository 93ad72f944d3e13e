"""What follows: pure, no clock and no I/O. May import model and policy."""
