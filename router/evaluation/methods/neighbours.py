"""Baseline: the mean gain of the k nearest fitted prompts by the cosine of static embeddings; k is cross-validated."""

from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.metrics import figures
from router.evaluation.samples import Outcomes, Prompts, Stage
from router.evaluation.tables import Floats

NEIGHBOURS = (10, 20, 40, 80, 160)
CHUNK_PROMPTS = 500  # against 10,000 fitted ones: 40 MB


@dataclass(frozen=True, slots=True)
class Neighbours:
    name: str = "knn"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedNeighbours":
        """k by leaving each prompt out of its own neighbours."""
        embeddings, gain = prompts.views.embeddings, outcomes.gain
        sizes = [k for k in NEIGHBOURS if k < len(gain)] or [1]
        means = mean_of_nearest(embeddings, embeddings, gain, sizes, itself=True)
        reached = [figures(means[:, place], outcomes.small, outcomes.large).apgr for place in range(len(sizes))]
        return FittedNeighbours(embeddings, gain, sizes[int(np.argmax(np.nan_to_num(reached)))])


@dataclass(frozen=True, slots=True, eq=False)
class FittedNeighbours:
    embeddings: Floats  # (N, 256)
    gain: Floats  # (N,)
    size: int

    def estimate(self, prompts: Prompts) -> Estimate:
        return Estimate(mean_of_nearest(prompts.views.embeddings, self.embeddings, self.gain, [self.size])[:, 0])


def mean_of_nearest(asked: Floats, known: Floats, values: Floats, sizes: list[int], *, itself: bool = False) -> Floats:
    """(P, len(sizes)): for each of *asked* (P, D) the mean of *values* (N,) over its k nearest of *known* (N, D).

    *itself*: both are the same prompts, and none counts as its own neighbour.
    """
    largest = min(max(sizes), len(known) - itself)
    found = np.empty((len(asked), len(sizes)))
    for start in range(0, len(asked), CHUNK_PROMPTS):
        likeness = asked[start : start + CHUNK_PROMPTS] @ known.T
        if itself:
            rows = np.arange(len(likeness))
            likeness[rows, start + rows] = -np.inf
        nearest = np.argpartition(-likeness, largest - 1, axis=1)[:, :largest]
        by_likeness = np.argsort(-np.take_along_axis(likeness, nearest, axis=1), axis=1)
        ordered = values[np.take_along_axis(nearest, by_likeness, axis=1)]
        running = np.cumsum(ordered, axis=1)
        for place, size in enumerate(sizes):
            found[start : start + CHUNK_PROMPTS, place] = running[:, min(size, largest) - 1] / min(size, largest)
    return found
