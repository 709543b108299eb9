"""Page-sparse decode attention: a decode step reads the pages of the context that can matter, not all of it."""
