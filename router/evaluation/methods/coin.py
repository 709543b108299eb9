"""Baseline: a coin decides. Its figures are exact expectations: APGR 0.5, CPT 50, 80 and 95."""

from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Stage


@dataclass(frozen=True, slots=True)
class Coin:
    name: str = "random"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "Coin":
        return self

    def estimate(self, prompts: Prompts) -> Estimate:
        return Estimate(np.zeros(len(prompts)))
