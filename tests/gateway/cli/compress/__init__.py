"""The commands that make models smaller, in a Python without torch."""
