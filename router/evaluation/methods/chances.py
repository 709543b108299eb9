"""Scores to chances: Platt's logistic curve, fitted on predictions for rows that were left out."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from router.evaluation.tables import Floats

LARGEST_LOGIT = 50.0


@dataclass(frozen=True, slots=True)
class Platt:
    """chance = sigmoid(slope * score + offset)."""

    slope: float
    offset: float

    def chances(self, scores: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-np.clip(self.slope * scores + self.offset, -LARGEST_LOGIT, LARGEST_LOGIT))))


def fit_platt(scores: Floats, came_true: Floats) -> Platt:
    """*scores* (N,), *came_true* (N,), 0 to 1; more than half counts as true."""
    true = came_true > 0.5
    if true.all() or not true.any():
        share = (true.sum() + 0.5) / (len(true) + 1)
        return Platt(0.0, float(np.log(share / (1 - share))))
    model = LogisticRegression(C=1e6, max_iter=500).fit(scores[:, None], true)
    return Platt(float(model.coef_[0, 0]), float(model.intercept_[0]))
