"""Whole decode steps of vLLM on a real model: dense, by pages, and with attention left out, which no attention beats.

In one process and on one cached prefix, a step of each kind after the other, so that what else the machine does meets
all of them. Times are the processor's, of one thread; the least of the rounds is taken. The prefix is read without
attention, which takes a third of the time: how long a step takes does not depend on what the keys say.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process, whose time is taken
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_PLUGINS": "",  # ours is registered below, whether or not the project is installed
}

import torch

from models.sparse.plugin import register
from tests.bench.sparse.table import Table

KINDS = ("dense", "pages", "no attention")
ROUNDS = 3
NEW_TOKENS = 16
CHUNK_TOKENS = 1024
PAST_TOKENS = 256  # of the model's length, behind the context
FIRST_ID, LAST_ID = 100, 20_000  # ordinary tokens of any vocabulary

_kind = KINDS[0]


def measure(
    folder: Path, contexts: Sequence[int], batches: Sequence[int], block_tokens: int, cache_gib: int, shared: bool
) -> Table:
    """POINTSMAN_SPARSE_* say what is measured. *shared*: the requests of a batch have all but a token in common."""
    register()
    from vllm import LLM

    _switch_by_kind()
    longest = max(contexts) + PAST_TOKENS
    engine = LLM(
        model=str(folder),
        max_model_len=longest,
        hf_overrides={"max_position_embeddings": longest},  # beyond what the model has learnt the text is worthless
        enforce_eager=True,
        max_num_seqs=max(batches),
        block_size=block_tokens,
        enable_prefix_caching=True,
        max_num_batched_tokens=CHUNK_TOKENS,
        disable_log_stats=True,
        kv_cache_memory_bytes=cache_gib << 30,
    )
    table = Table(
        f"Decode steps of {folder.name}, {os.environ['OMP_NUM_THREADS']} threads, blocks of {block_tokens}",
        (
            "batch x context",
            *(f"{kind}, cpu ms" for kind in KINDS),
            "faster",
            "at most",
            "dense, wall ms",
            "pages, wall ms",
        ),
    )
    for batch in batches:
        for context in contexts:
            best = rounds(engine, batch, context, shared=shared)
            dense, pages, none = (best[kind][0] for kind in KINDS)
            cells = (f"{dense:.1f}", f"{pages:.1f}", f"{none:.1f}", f"{dense / pages:.2f}", f"{dense / none:.2f}")
            table.add(f"{batch} x {context:,}", *cells, *(f"{best[kind][1]:.1f}" for kind in KINDS[:2]))
    return table


def rounds(engine: Any, batch: int, context: int, *, shared: bool) -> dict[str, tuple[float, float]]:
    """For each kind milliseconds of a step, the processor's and the clock's: the least of the rounds."""
    global _kind  # read inside vLLM, which passes nothing on
    random = torch.Generator().manual_seed(context)
    prompts = [
        {"prompt_token_ids": torch.randint(FIRST_ID, LAST_ID, (context,), generator=random).tolist()}
        for _ in range(batch)
    ]
    if shared:
        begin = prompts[0]["prompt_token_ids"][:-1]
        prompts = [{"prompt_token_ids": [*begin, FIRST_ID + i]} for i in range(batch)]
    _kind = "no attention"
    generated(engine, prompts[:1], 1)
    generated(engine, prompts, 1)  # the prefix is read, and cached
    best: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        for kind in KINDS:
            _kind = kind
            before, after = generated(engine, prompts, 1), generated(engine, prompts, 1 + NEW_TOKENS)
            cpu, wall = ((b - a) / NEW_TOKENS * 1e3 for a, b in zip(before, after, strict=True))
            least = best.get(kind, (cpu, wall))
            best[kind] = (min(least[0], cpu), min(least[1], wall))
    _kind = KINDS[0]
    return best


def generated(engine: Any, prompts: list[Any], tokens: int) -> tuple[float, float]:
    """Seconds that it took, the processor's and the clock's."""
    from vllm import SamplingParams

    cpu, wall = time.process_time(), time.perf_counter()
    engine.generate(prompts, SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True), use_tqdm=False)
    return time.process_time() - cpu, time.perf_counter() - wall


def _switch_by_kind() -> None:
    """Let `_kind` decide, at every step, what the backend does with the work it has found."""
    from models.sparse import backend

    build, forward = backend.SparseMetadataBuilder.build, backend.SparseImpl.forward

    def built(self: Any, *args: Any, **kwargs: Any) -> Any:
        step = build(self, *args, **kwargs)
        if _kind == "dense":
            step.work = step.rest = None
        return step

    def attended(self: Any, layer: Any, query: Any, key: Any, value: Any, kv_cache: Any, attn_metadata: Any = None,
                 output: Any = None, **rest: Any) -> Any:  # fmt: skip
        if _kind == "no attention":
            return output.zero_()
        return forward(self, layer, query, key, value, kv_cache, attn_metadata, output, **rest)

    backend.SparseMetadataBuilder.build = built  # type: ignore[method-assign]
    backend.SparseImpl.forward = attended  # type: ignore[assignment, method-assign]
