"""Settings of these tests."""

from hypothesis import settings

# A busy machine is not a broken promise: pytest's own time limit ends what hangs.
settings.register_profile("router", deadline=None)
settings.load_profile("router")
