"""What an operator reads when vLLM has ended. The lines are vLLM's own, as it wrote them or as its source has them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vllm.diagnosis import LINE_CHARACTERS, diagnosis_of

PREFIX = "(EngineCore pid=6603) ERROR 11-26 00:53:36 [core.py:99] "
END = "RuntimeError: Engine core initialization failed. See root cause above."


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "GPU's memory.*gpu_memory_share"),
        ("ValueError: No available memory for the cache blocks. Try increasing", "no room for keys.*kv_cache_gib"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried", "machine's memory.*smaller model"),
        (
            "NotImplementedError: \"cpu_gemm_wna16\" not implemented for 'Float'",
            "kernel is missing.*cpu_gemm_wna16.*bfloat16",
        ),
        ("ValueError: Failed to find a kernel that can implement the WNA16 linear layer", "kernel is missing"),
        ("Value error, Model architectures ['Llama17LM'] are not supported for now.", r"architecture \['Llama17LM'\]"),
        (
            "The checkpoint you are trying to load has model type `llama17` but Transformers does not recognize this"
            " architecture.",
            "neither vLLM nor transformers knows the architecture llama17",
        ),
        ("ValueError: Unknown quantization method: bitsandbytes. Must be one of", "bitsandbytes.*vllm-bnb-plugin"),
        ("models.sparse.budget.SparseRefused: this model's attention is latent (MLA)", "sparse attention.*latent"),
        ("safetensors_rust.SafetensorError: Error while deserializing header", "damaged: pointsman models verify"),
        ("ModuleNotFoundError: No module named 'vllm'", "vllm is not installed where vLLM runs: make torch"),
        ("api_server.py: error: unrecognized arguments: --wat", "command line: error: unrecognized arguments"),
        ("ValueError: something new", "vLLM ended: ValueError: something new"),
    ],
)
def test_the_cause_is_told_and_not_what_followed_from_it(line: str, told: str) -> None:
    assert re.search(told, diagnosis_of(["INFO starting", PREFIX + line, "Traceback (most recent call last):", END]))


def test_without_a_word_that_is_said() -> None:
    assert diagnosis_of([]) == "vLLM ended without a word"


@given(st.lists(st.text(max_size=2000), max_size=30))
def test_any_log_makes_one_short_line(lines: list[str]) -> None:
    told = diagnosis_of(line.replace("\n", " ").replace("\r", " ") for line in lines)

    assert told
    assert len(told) < 3 * LINE_CHARACTERS
