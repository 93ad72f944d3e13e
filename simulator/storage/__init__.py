"""Storage: Azurite, Microsoft's emulator, as a child process."""
