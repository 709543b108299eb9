"""Answers that were given before: the same request by its bytes, or, where that is proved, one like it."""
