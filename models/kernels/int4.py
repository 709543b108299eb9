"""Products with 4-bit weights (W4A16): two thirds to three quarters of the bytes of a decode step are not read.

Weights are rounded to nearest in groups along the inputs and packed as compressed-tensors' `pack-quantized` has them:
eight of a row in one 32-bit word, the first lowest, each plus 8; a scale for each row and group.
"""

from typing import Any

import torch
import triton
import triton.language as tl

GROUP = 128  # inputs that share a scale
PER_WORD = 8
LEAST_ROWS = 16  # tensor cores multiply no fewer
HIGHEST = 7.5  # of the rounded values, -8 to 7, the largest weight of a group lies between the two ends


def quantise(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(outputs, inputs) rounded to nearest: words (outputs, inputs / 8) and scales (outputs, inputs / GROUP)."""
    outputs, inputs = weights.shape
    groups = weights.float().view(outputs, inputs // GROUP, GROUP)
    scales = (groups.abs().amax(-1) / HIGHEST).clamp(min=1e-8).to(weights.dtype)
    whole = (groups / scales.float()[..., None]).round().clamp(-8, 7).to(torch.int64) + 8
    shifts = 4 * torch.arange(PER_WORD, device=weights.device)
    words = (whole.view(outputs, inputs // PER_WORD, PER_WORD) << shifts).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32), scales


def dequantise(words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The weights that *words* and *scales* stand for, (outputs, inputs), of the scales' type."""
    shifts = 4 * torch.arange(PER_WORD, device=words.device, dtype=torch.int32)
    whole = ((words[..., None] >> shifts) & 0xF) - 8
    groups = whole.view(words.shape[0], -1, GROUP).to(scales.dtype) * scales[..., None]
    return groups.view(words.shape[0], -1)


@triton.jit
def _product(
    inputs: Any, words: Any, scales: Any, parts: Any, count: Any, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
    PER_PART: tl.constexpr, GROUP: tl.constexpr, WORDS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    word = tl.arange(0, WORDS)
    is_column = column < OUTPUTS
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for i in range(PER_PART):
        group = tl.program_id(1) * PER_PART + i
        is_group = group < INPUTS // GROUP
        at = column[None, :] * (INPUTS // 8) + group * WORDS + word[:, None]
        packed = tl.load(words + at, mask=is_column[None, :] & is_group, other=0)
        scale = tl.load(scales + column * (INPUTS // GROUP) + group, mask=is_column & is_group, other=0.0)
        of_group = tl.zeros([ROWS, COLUMNS], tl.float32)
        for nibble in tl.static_range(8):
            x_at = row[:, None] * INPUTS + group * GROUP + word[None, :] * 8 + nibble
            x = tl.load(inputs + x_at, mask=(row < count)[:, None] & is_group, other=0.0)
            whole = ((packed >> (4 * nibble)) & 0xF) - 8
            of_group += tl.dot(x, whole.to(x.dtype))
        total += of_group * scale.to(tl.float32)[None, :]
    into = (tl.program_id(1) * count + row[:, None]) * OUTPUTS + column[None, :]
    tl.store(parts + into, total, mask=(row < count)[:, None] & is_column[None, :])


def product(
    inputs: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    *,
    columns: int = 32,
    parts: int = 4,
    warps: int = 4,
) -> torch.Tensor:
    """inputs (rows, inputs) times the transposed weights: (rows, outputs). The last three change the speed alone."""
    rows, width = inputs.shape
    outputs, groups = scales.shape
    per_part = triton.cdiv(groups, parts)
    found = torch.empty(triton.cdiv(groups, per_part), rows, outputs, dtype=torch.float32, device=inputs.device)
    tile = min(64, max(LEAST_ROWS, triton.next_power_of_2(rows)))
    _product[(triton.cdiv(outputs, columns), len(found), triton.cdiv(rows, tile))](
        inputs, words, scales, found, rows, OUTPUTS=outputs, INPUTS=width, PER_PART=per_part, GROUP=GROUP,
        WORDS=GROUP // PER_WORD, ROWS=tile, COLUMNS=columns, num_warps=warps,
    )  # fmt: skip
    return found.sum(0).to(inputs.dtype)
