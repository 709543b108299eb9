"""GPTQ: weights rounded one input after the other, what each rounding breaks is mended in the inputs still to come.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023,
Algorithm 1, with the inputs in the order of their weight in the Hessian (activation order) and scales fixed
beforehand, so that groups stay where the kernels expect them. Pure torch.
"""

import torch

from models.compress.rounding import Rounded, levels_of, rounded, scales_of, spread
from models.job import JobFailed

DAMPING = 0.01  # of the mean diagonal, section 3.3 step 3
MOST_DAMPINGS = 6  # a thousand times the diagonal; what fails then has no numbers in it
COLUMNS = 128  # mended lazily, together, section 3.3 step 2


def hessian_of(inputs: torch.Tensor) -> torch.Tensor:
    """(in, in), of *inputs* (tokens, in): of the squared error of a row's output. Sums over batches add up."""
    return inputs.T @ inputs


def gptq(weight: torch.Tensor, hessian: torch.Tensor, bits: int, group: int | None, stored: torch.dtype) -> Rounded:
    """*weight* (out, in) as levels whose output differs least on the inputs that *hessian* is of.

    No row is worse than its rounding to the nearest: that is kept where it is better.
    """
    nearest = rounded(weight, bits, group, stored)
    scales = scales_of(weight, bits, group, stored)
    mended = Rounded(_levels(weight.float(), hessian, spread(scales, weight.shape[1]).float(), bits), scales)
    is_better = output_error(weight, mended, hessian) <= output_error(weight, nearest, hessian)
    return Rounded(torch.where(is_better.unsqueeze(1), mended.levels, nearest.levels), scales)


def output_error(weight: torch.Tensor, made: Rounded, hessian: torch.Tensor) -> torch.Tensor:
    """(out,), squared, summed over the inputs that *hessian* is of."""
    wrong = weight.float() - made.dense
    return ((wrong @ hessian) * wrong).sum(1)


def _levels(weight: torch.Tensor, hessian: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    hessian = hessian.clone()
    dead = hessian.diagonal() == 0  # an input that is always zero: its weight says nothing
    hessian[dead, dead] = 1
    order = hessian.diagonal().argsort(descending=True, stable=True)
    weight, scale = weight[:, order].clone(), scale[:, order]
    factor = _factor(hessian[order][:, order])
    levels = torch.empty_like(weight, dtype=torch.int8)
    for start in range(0, weight.shape[1], COLUMNS):
        end = min(start + COLUMNS, weight.shape[1])
        errors = torch.zeros_like(weight[:, start:end])
        for column in range(start, end):
            levels[:, column] = levels_of(weight[:, column], scale[:, column], bits)
            lost = weight[:, column] - levels[:, column].float() * scale[:, column]
            errors[:, column - start] = lost / factor[column, column]
            weight[:, column:end] -= errors[:, column - start].unsqueeze(1) * factor[column, column:end]
        weight[:, end:] -= errors @ factor[start:end, end:]
    return levels[:, order.argsort()]


def _factor(hessian: torch.Tensor) -> torch.Tensor:
    """The upper Cholesky factor of the inverse. Damped until it has one. Raises JobFailed where nothing helps."""
    damping = DAMPING * hessian.diagonal().mean()
    eye = torch.eye(len(hessian))
    for _ in range(MOST_DAMPINGS):
        lower, failed = torch.linalg.cholesky_ex(hessian + damping * eye)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                return upper
        damping = damping * 10
    raise JobFailed("what flows through a layer is no number; the checkpoint is damaged, or needs another type")
