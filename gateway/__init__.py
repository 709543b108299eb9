"""The HTTP edge: receives, authenticates, decides by the router, calls engines, streams and meters."""
