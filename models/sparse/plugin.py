"""The entry point `vllm.general_plugins`: vLLM calls `register` in each of its processes, maybe more than once.

Off unless POINTSMAN_SPARSE_BUDGET_TOKENS is set; then vLLM serves sparse, or does not start and says why. It must not
serve dense in silence: whoever started it counts on what the catalogue row says.
"""

import os

from models.sparse.budget import PREFIX, SparseRefused, budget_from

ACTIVE = "Pointsman's sparse attention is active"  # how the log line begins that `backend` writes when it serves


def register() -> None:
    """Put our backend in the place of vLLM's for CPU. Raises SparseRefused."""
    if budget_from(os.environ) is None:
        return
    from vllm.platforms import current_platform
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    if not current_platform.is_cpu():
        raise SparseRefused(f"sparse attention serves on CPU only so far; unset {PREFIX}BUDGET_TOKENS")
    # vLLM's platform for CPU takes CPU_ATTN whatever --attention-backend says, and looks up what is registered for it.
    register_backend(AttentionBackendEnum.CPU_ATTN, "models.sparse.backend.SparseBackend")
    for latent in (AttentionBackendEnum.CPU_MLA, AttentionBackendEnum.AMX_MLA):
        register_backend(latent, "models.sparse.backend.LatentRefused")
