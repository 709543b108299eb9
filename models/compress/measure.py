"""What a checkpoint is worth by itself: how well it foretells a text, and what that takes, computed by transformers.

How fast an engine serves it is another question, which is asked through the engine. Perplexity is that of one short
text: good for comparing builds of one model, not for comparing models.
"""

import resource
from collections.abc import Mapping
from math import exp
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from models.compress.checkpoint import Checkpoint, look
from models.compress.loading import STORED, WORKING, model_of, tokenizer_of, windows
from models.compress.work import Work
from models.job import JobFailed, OnStep, Step

TOKENS = 512  # of a window; each token but the first of one is foretold
MOST_WINDOWS = 64
KILOBYTE = 1024  # ru_maxrss


def measure(settings: Mapping[str, Any], work: Work, on_step: OnStep) -> Mapping[str, Any]:
    """`source`, `text`. Raises JobFailed."""
    source = look(Path(settings["source"]))
    tokenizer = tokenizer_of(source)
    ids = windows(tokenizer, [settings["text"]], TOKENS, MOST_WINDOWS)
    if ids.shape[0] == 0 or ids.shape[1] < 2:
        raise JobFailed("the text to measure on is empty; name one of a page or more with --text")
    on_step(Step("loading", 0, len(ids)))
    # Kernels of quantised layers know bfloat16; dense weights are computed in what is exact.
    model = model_of(source, STORED if source.is_quantized else WORKING)
    began, began_cpu = perf_counter(), process_time()
    nats = perplexity(model, ids, on_step)
    return {
        "perplexity": exp(nats),
        "tokens": ids.numel(),
        "seconds": perf_counter() - began,
        "cpu_seconds": process_time() - began_cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE,
        "weights_bytes": source.size_bytes,
        "parameters": parameters_of(source),
    }


@torch.no_grad()
def perplexity(model: Any, ids: torch.Tensor, on_step: OnStep = lambda _: None) -> float:
    """Nats per token that *model* foretells of the windows *ids* (windows, tokens)."""
    total = 0.0
    for place, row in enumerate(ids):
        logits = model(row.unsqueeze(0), use_cache=False).logits[0, :-1].float()
        total += float(cross_entropy(logits, row[1:], reduction="sum"))
        on_step(Step(f"window {place + 1}", place + 1, len(ids)))
    return total / (ids.shape[0] * (ids.shape[1] - 1))


def parameters_of(source: Checkpoint) -> int | None:
    """Weights as they are stored, None where several stand in one word."""
    if source.is_quantized:
        return None
    return sum(
        tensor.size_bytes // {"F32": 4, "BF16": 2, "F16": 2}.get(tensor.dtype, 1) for tensor in source.tensors.values()
    )
