"""What tests of torch code may use. This folder's own: the gateway's fixtures need what is not installed here."""

from hypothesis import HealthCheck, settings

# A busy machine is not a broken promise: pytest's own time limit ends what hangs.
settings.register_profile("pointsman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pointsman")
