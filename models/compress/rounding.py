"""Weights as few levels: scales, rounding to the nearest level, and levels packed into words. Pure torch.

Symmetric signed integers, as compressed-tensors and the kernels of vLLM read them: a level q in [-2^(b-1), 2^(b-1) - 1]
stands for q * scale, with one scale per output row, or per group of consecutive inputs of a row.
"""

from dataclasses import dataclass

import torch

WORD_BITS = 32
CLIPS = (
    1.0,
    0.95,
    0.9,
    0.85,
    0.8,
)  # shares of the largest weight that still have a level of their own; the best is kept
SMALLEST_SCALE = 1e-8


@dataclass(frozen=True, slots=True)
class Rounded:
    """`levels` (out, in) int8; `scales` (out, groups) in the type that they are stored in."""

    levels: torch.Tensor
    scales: torch.Tensor

    @property
    def dense(self) -> torch.Tensor:
        """(out, in) float32: what the levels stand for."""
        groups = self.scales.shape[1]
        grouped = self.levels.float().unflatten(1, (groups, -1))
        return (grouped * self.scales.float().unsqueeze(-1)).flatten(1)


def rounded(weight: torch.Tensor, bits: int, group: int | None, stored: torch.dtype) -> Rounded:
    """*weight* (out, in), each weight at its nearest level. `group`: inputs with a scale of their own; None: a row."""
    scales = scales_of(weight, bits, group, stored)
    return Rounded(levels_of(weight, spread(scales, weight.shape[1]), bits), scales)


def scales_of(weight: torch.Tensor, bits: int, group: int | None, stored: torch.dtype) -> torch.Tensor:
    """(out, groups), of the least squared error among CLIPS. A row of its own is never clipped: so much is lost there
    that the few large weights of a row are worth more than finer levels for the rest.
    """
    grouped = weight.float().unflatten(1, (-1, group or weight.shape[1]))
    largest = grouped.abs().amax(-1, keepdim=True)
    half = float(2 ** (bits - 1))
    if group is None:
        return (largest / (half - 1)).clamp(min=SMALLEST_SCALE).to(stored).squeeze(-1)
    best, best_error = largest, torch.full_like(largest, float("inf"))
    for clip in CLIPS:
        # Half a level over the top on the positive side, which has one level less.
        scale = (largest * clip / (half - 0.5)).clamp(min=SMALLEST_SCALE).to(stored).float()
        error = (levels_of(grouped, scale, bits).float() * scale - grouped).square().sum(-1, keepdim=True)
        best, best_error = torch.where(error < best_error, scale, best), torch.minimum(error, best_error)
    return best.squeeze(-1).to(stored)


def levels_of(weight: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    """int8, of the shape of *weight*, to which *scale* is broadcast."""
    half = 2 ** (bits - 1)
    return (weight.float() / scale.float()).round().clamp(-half, half - 1).to(torch.int8)


def spread(scales: torch.Tensor, inputs: int) -> torch.Tensor:
    """(out, in): of each weight its scale."""
    return scales.repeat_interleave(inputs // scales.shape[1], dim=1)


def packed(levels: torch.Tensor, bits: int) -> torch.Tensor:
    """(out, in) int8 to (out, words) int32: unsigned levels, the first in the lowest bits; a last word is filled up."""
    per_word = WORD_BITS // bits
    unsigned = (levels.to(torch.int16) + 2 ** (bits - 1)).to(torch.int32)
    unsigned = torch.nn.functional.pad(unsigned, (0, -levels.shape[1] % per_word))
    shifts = torch.arange(per_word, dtype=torch.int32) * bits
    return (unsigned.unflatten(1, (-1, per_word)) << shifts).sum(-1, dtype=torch.int32)


def unpacked(words: torch.Tensor, bits: int, inputs: int) -> torch.Tensor:
    """The inverse of `packed`: (out, *inputs*) int8."""
    shifts = torch.arange(WORD_BITS // bits, dtype=torch.int32) * bits
    unsigned = (words.unsqueeze(-1) >> shifts) & (2**bits - 1)
    return (unsigned.flatten(1)[:, :inputs] - 2 ** (bits - 1)).to(torch.int8)
