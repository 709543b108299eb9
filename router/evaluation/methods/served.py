"""What a gateway goes by before any answer: `router.fit`'s own solve models, and the difference of their chances.

The one method here that needs nothing beyond `router.difficulty` to decide: no embedder, no arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from router.difficulty import SolveModel
from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Stage
from router.evaluation.tables import Floats
from router.fit import SeenPrompt, fit_solve_model
from router.looks import Looks

STRENGTH = 0.3  # of `router.fit.SOLVE_STRENGTHS`; the best, or next to it, on each of the tables
RIGHT = 0.5  # a score from which on an answer is right


@dataclass(frozen=True, slots=True)
class Served:
    name: str = "served"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedServed":
        small, large = _fitted(prompts, outcomes.small), _fitted(prompts, outcomes.large)
        return FittedServed(small, large, float(outcomes.gain.mean()))


@dataclass(frozen=True, slots=True, eq=False)
class FittedServed:
    small: SolveModel
    large: SolveModel
    mean_gain: float  # what is expected of a template that was not fitted on, of which nobody looks at a prompt

    def estimate(self, prompts: Prompts) -> Estimate:
        asked = list(zip(_looks(prompts), map(str, prompts.templates), strict=True))
        chances = np.array([[model.chance(*one) for model in (self.small, self.large)] for one in asked])
        known = np.array([template in self.small.offsets for _, template in asked])
        return Estimate(np.where(known, chances[:, 1] - chances[:, 0], self.mean_gain), chances=chances)


def _fitted(prompts: Prompts, scores: Floats) -> SolveModel:
    seen = [
        SeenPrompt(looks, str(template), bool(score >= RIGHT))
        for looks, template, score in zip(_looks(prompts), prompts.templates, scores, strict=True)
    ]
    return fit_solve_model(seen, STRENGTH)


def _looks(prompts: Prompts) -> Iterator[Looks]:
    views = prompts.views
    features, words = views.features, views.words
    for row, values in enumerate(features):
        places = words.indices[words.indptr[row] : words.indptr[row + 1]]
        yield Looks(tuple(values.tolist()), tuple(places.tolist()))
