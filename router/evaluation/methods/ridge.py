"""Ridge regression of several targets at once, with predictions for the fitted rows as if each had been left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.evaluation.tables import Floats

STRENGTHS: Sequence[float] = tuple(
    np.logspace(-1, 4, 16).tolist()
)  # of the penalty, beside columns that vary by about 1 / sqrt(columns) each
MOST_LEVERAGE = 0.999  # a row that alone decides its own fit would be divided by zero


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    centre: Floats  # (D,)
    weights: Floats  # (D, T)
    means: Floats  # (T,)

    def predict(self, x: Floats) -> Floats:
        """(P, D) to (P, T)."""
        return np.asarray((x - self.centre) @ self.weights + self.means, dtype=np.float64)


def fit_ridge(x: Floats, y: Floats, strengths: Sequence[float] = STRENGTHS) -> tuple[Ridge, Floats]:
    """*x* (N, D), *y* (N, T). Returns the model and (N, T), each row predicted without itself.

    The penalty of each target is the one with the least squared error of these predictions, which follow from the
    leverages in closed form (Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", section 7.10).
    """
    centre, means = x.mean(axis=0), y.mean(axis=0)
    inside, target = x - centre, y - means
    values, vectors = np.linalg.eigh(inside.T @ inside)
    rotated = inside @ vectors  # (N, D)
    squared, projected = rotated**2, rotated.T @ target
    best = np.full(y.shape[1], np.inf)
    weights, left_out = np.zeros((x.shape[1], y.shape[1])), np.zeros_like(target)
    for strength in strengths:
        inverse = 1 / (np.maximum(values, 0) + strength)
        leverage = np.minimum(squared @ inverse + 1 / len(x), MOST_LEVERAGE)
        shrunk = inverse[:, None] * projected  # (D, T)
        residual = (target - rotated @ shrunk) / (1 - leverage)[:, None]
        error = (residual**2).mean(axis=0)
        better = error < best
        best[better] = error[better]
        weights[:, better] = (vectors @ shrunk)[:, better]
        left_out[:, better] = (target - residual)[:, better]
    return Ridge(centre, weights, means), left_out + means
