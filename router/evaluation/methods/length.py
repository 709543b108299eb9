"""Baseline: longer prompts are escalated, or shorter ones, whichever gained more on the fitted prompts."""

from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Stage
from router.evaluation.tables import Floats


@dataclass(frozen=True, slots=True)
class Length:
    name: str = "length"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedLength":
        characters = _characters(prompts)
        covariance = float(((characters - characters.mean()) * outcomes.gain).mean())
        return FittedLength(sign=-1.0 if covariance < 0 else 1.0)


@dataclass(frozen=True, slots=True)
class FittedLength:
    sign: float

    def estimate(self, prompts: Prompts) -> Estimate:
        return Estimate(self.sign * _characters(prompts))


def _characters(prompts: Prompts) -> Floats:
    return np.array([len(text) for text in prompts.texts], dtype=np.float64)
