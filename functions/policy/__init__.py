"""What the owner wants: settings, tags, windows. May import model."""
