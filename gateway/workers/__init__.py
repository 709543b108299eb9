"""Several processes that serve one gateway on one machine: who starts them, what they share, and how they talk."""
