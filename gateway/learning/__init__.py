"""What the router learns while the gateway runs: where it is kept, how it gets there, and who is told."""
