"""Run by the Python that has torch (make torch), which has no gateway: `make test` does."""
