"""A logistic model applied to numbers, some of which may be missing. Pure arithmetic."""

from collections.abc import Sequence
from math import exp

LARGEST_LOGIT = 50.0  # exp of more overflows nothing yet, and says nothing more


def chance(
    bias: float,
    weights: Sequence[float],
    means: Sequence[float],
    scales: Sequence[float],
    values: Sequence[float | None],
) -> float:
    """sigmoid(bias + sum w_i * (x_i - mean_i) / scale_i), 0 to 1; a value that is None counts as its mean."""
    z = bias
    for weight, mean, scale, value in zip(weights, means, scales, values, strict=True):
        if value is not None:
            z += weight * (value - mean) / scale
    return sigmoid(z)


def sigmoid(logit: float) -> float:
    """0 to 1."""
    return 1 / (1 + exp(-max(-LARGEST_LOGIT, min(LARGEST_LOGIT, logit))))
