"""What tests of torch code may use. This folder's own: the gateway's fixtures need what is not installed here."""

import os

import torch
from hypothesis import HealthCheck, settings

# A busy machine is not a broken promise: pytest's own time limit ends what hangs.
settings.register_profile("pointsman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pointsman")

# Without a GPU kernels run in Triton's interpreter, which must be asked for before anything imports Triton.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
