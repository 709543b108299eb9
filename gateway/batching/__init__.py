"""Running batches: what a line must look like, where answers wait, and who asks."""
