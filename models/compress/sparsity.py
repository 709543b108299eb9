"""Which weights of a matrix to set to zero: by their size, or by their size times what flows through them. Pure torch.

Magnitude: Han et al., "Learning both Weights and Connections", 2015. Wanda: Sun et al., "A Simple and Effective Pruning
Approach for Large Language Models", ICLR 2024, equation 1; compared within a row, as in its section 3. Two of four: at
most two of four neighbours stay, the pattern that sparse tensor cores of GPUs read (Mishra et al., 2021).
"""

import torch

PATTERN, ZEROS = 4, 2


def importance(weight: torch.Tensor, norms: torch.Tensor | None = None) -> torch.Tensor:
    """(out, in). `norms` (in,): of each input, its length over the calibration text; None: size alone."""
    return weight.abs() if norms is None else weight.abs() * norms


def pruned(weight: torch.Tensor, scores: torch.Tensor, share: float) -> torch.Tensor:
    """*weight* (out, in) without the *share* of each row that has the least *scores*."""
    count = round(share * weight.shape[1])
    least = scores.argsort(dim=1, stable=True)[:, :count]
    return weight.scatter(1, least, 0.0)


def pruned_by_pattern(weight: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """*weight* without the two of each four neighbours in a row that have the least *scores*."""
    least = scores.unflatten(1, (-1, PATTERN)).argsort(dim=2, stable=True)[..., :ZEROS]
    return weight.unflatten(1, (-1, PATTERN)).scatter(2, least, 0.0).flatten(1)
