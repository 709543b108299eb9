"""What makes models smaller, on models of a few thousand random weights."""
