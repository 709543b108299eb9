"""Narrower feed-forward parts: of each block the channels that matter least go, everywhere as many. Pure torch.

A channel is a row of gate_proj and of up_proj, and the column of down_proj that it feeds. It matters as much as that
column's weights do on average, each by its size times the strength of what flows through the channel: Wanda-sp of An
et al., "Fluctuation-based Adaptive Structured Pruning for Large Language Models", AAAI 2024. All is measured on the
model as it was: neither narrowing one block after the other nor mending down_proj by least squares was better
(EXPERIMENTS.md, 47). One width for all blocks, since that is all a config can say.
"""

from typing import Any

import torch
from torch import nn

from models.compress.calibration import Stream, walk
from models.compress.loading import blocks_of
from models.compress.sparsity import importance
from models.job import JobFailed, OnStep, Step

# The largest group of four bits that `quantize` takes, and what vLLM's kernels of four bits for GPUs want of a matrix's
# inputs (GPTQ_MARLIN_MIN_THREAD_K). Q8_0, which `as_gguf` writes, wants 32. llama.cpp's K-quants want 256; for other
# matrices it takes another kind.
MULTIPLE = 128
ALL, EIGHTHS = 1.0, 8  # shares of the channels that a search chooses from
OUTPUTS = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.gate_proj.bias", "mlp.up_proj.bias")  # a row is a channel
INPUTS = ("mlp.down_proj.weight",)  # a column is one


def width_of(channels: int, keep: float) -> int:
    """How many of *channels* stay where the share *keep* is asked for: a multiple of MULTIPLE. Raises JobFailed."""
    count = _rounded(channels, keep)
    if not 0 < keep < ALL or count >= channels:
        raise JobFailed(
            f"--keep {keep:g}: of {channels} channels a multiple of {MULTIPLE} stays, which would be {count}; name a "
            f"share between 0 and {(channels - 1) // MULTIPLE * MULTIPLE / channels:.3f}"
        )
    return count


def widths(channels: int, least: float) -> dict[float, int]:
    """Shares of *channels*, an eighth apart from all down to *least*, and how many stay of each; none has as many as
    another.
    """
    found = {ALL: channels}
    for eighths in range(EIGHTHS - 1, 0, -1):
        keep = eighths / EIGHTHS
        count = _rounded(channels, keep)
        if keep >= least and count < min(found.values()):
            found[keep] = count
    return found


def importances(model: Any, ids: torch.Tensor, on_step: OnStep) -> list[list[float]]:
    """Of each block how much each of its channels matters on *ids* (windows, tokens)."""
    found = []
    for place, block, stream in walk(model, ids):
        on_step(Step(f"block {place}", place, len(blocks_of(model))))
        found.append(importance(block.mlp.down_proj.weight, _strengths(stream, block)).mean(0).tolist())
    return found


def best(importances: list[float], width: int) -> torch.Tensor:
    """The *width* channels that matter most, ascending; of two alike the earlier."""
    return torch.tensor(importances).argsort(descending=True, stable=True)[:width].sort().values


def narrowed(name: str, tensor: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """A tensor of a block, by its *name* there, with the channels *kept* alone."""
    if name in OUTPUTS:
        return tensor[kept]
    return tensor[:, kept].contiguous() if name in INPUTS else tensor


def _rounded(channels: int, keep: float) -> int:
    return max(MULTIPLE, round(channels * keep / MULTIPLE) * MULTIPLE)


def _strengths(stream: Stream, block: nn.Module) -> torch.Tensor:
    """(channels,): the length of what flows through each, over all tokens."""
    squares: list[torch.Tensor] = []

    def watch(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        squares.append(args[0].detach().flatten(0, -2).float().square().sum(0))

    handle = block.mlp.down_proj.register_forward_pre_hook(watch)
    try:
        stream.through(block)
    finally:
        handle.remove()
    return torch.stack(squares).sum(0).sqrt()
