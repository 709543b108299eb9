"""What vLLM's log says went wrong, in an operator's words. Knows the words of vLLM 0.32; a log that has none of them is
told by its last line.
"""

import re
from collections.abc import Iterable

SPARSE_ACTIVE = "sparse attention is active"  # what models.sparse writes once it serves
LINE_CHARACTERS = 300

# The first that is found is told: what it looks like, what it means, whether trying again may help.
_SIGNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), told)
    for pattern, told in (
        (r"SparseRefused: (?P<said>.*)", "sparse attention cannot serve this: {said}"),
        (
            r"(CUDA out of memory|OutOfMemoryError|Free memory on device .* is less than desired)",
            "the GPU's memory does not suffice: lower vllm.gpu_memory_share, context_tokens or parallel",
        ),
        (
            r"(No available memory for the cache blocks|larger than the available KV cache memory"
            r"|KV cache is needed, which is larger)",
            "there is no room for keys and values of a whole context: lower context_tokens, or raise vllm.kv_cache_gib",
        ),
        (
            r"(MemoryError|DefaultCPUAllocator: can't allocate memory|std::bad_alloc|Cannot allocate memory)",
            "the machine's memory does not suffice: lower vllm.kv_cache_gib, or serve a smaller model",
        ),
        (
            r"(?P<said>\"?[\w:]+\"? not implemented for '\w+')",
            "a kernel is missing for this dtype ({said}): set numerics.dtype to bfloat16",
        ),
        (
            r"(Failed to find a kernel that can|no kernel image is available|not supported on CPU)(?P<said>.*)",
            "a kernel is missing for this checkpoint on this hardware{said}",
        ),
        (
            r"Model architectures (?P<said>\[.*?\]) are not supported",
            "the architecture {said} is not among its own; engine transformers may know it",
        ),
        (
            r"model type `?(?P<said>\S+?)`? but Transformers does not recognize this architecture",
            "neither vLLM nor transformers knows the architecture {said}",
        ),
        (
            r"Unknown quantization method: (?P<said>\S+?)\.",
            "the quantisation {said} is not known; its plugin may be missing (for bitsandbytes: vllm-bnb-plugin)",
        ),
        (r"(?P<said>The checkpoint you are trying to load .*)", "{said}"),
        (
            r"(SafetensorError|HeaderTooLarge|MetadataIncompleteBuffer)",
            "the checkpoint is damaged: pointsman models verify",
        ),
        (
            r"max_model_len \((?P<said>\d+)\) is greater than",
            "context_tokens {said} is more than the model was made for",
        ),
        (r"No module named '(?P<said>[\w.]+)'", "{said} is not installed where vLLM runs: make torch"),
        (r"(?P<said>error: .*)", "it does not take its command line: {said}"),
    )
)
_NOISE = re.compile(r"^(\(\w+ pid=\d+\) )?((ERROR|INFO|WARNING) [\d-]+ [\d:]+ \[[^\]]*\] )?")
_ERROR = re.compile(r"[\w.]*(Error|Exception): (?!Engine core)")  # which says that another process ended, not why
ADDRESS_IN_USE = re.compile(r"address already in use", re.IGNORECASE)


def diagnosis_of(lines: Iterable[str]) -> str:
    """Why a server with this log ended."""
    bare = [_NOISE.sub("", line).strip() for line in lines]
    for pattern, told in _SIGNS:
        for line in bare:
            if found := pattern.search(line):
                said = found.groupdict().get("said") or ""
                return told.format(said=said[:LINE_CHARACTERS])
    errors = [line for line in bare if _ERROR.match(line)] or [line for line in bare if line]
    return f"vLLM ended: {errors[-1][:LINE_CHARACTERS]}" if errors else "vLLM ended without a word"
