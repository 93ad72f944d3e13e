"""Doing it: the only room with effects and rules together. Reaches Azure through its services."""
