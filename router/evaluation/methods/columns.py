"""Columns of numbers for linear learners: scaled, so that one penalty suits all of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.evaluation.samples import Texts
from router.evaluation.tables import Floats

MOST_DEVIATIONS = 4.0  # a value further off is cut: one odd prompt may not decide
LEAST_DEVIATION = 1e-6  # of a column that counts as varying


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """To mean 0 and deviation 1 / sqrt(columns), cut at four deviations; a column that does not vary becomes 0."""

    centre: Floats
    factor: Floats

    @classmethod
    def of(cls, columns: Floats) -> "Scale":
        deviation = columns.std(axis=0)
        varying = deviation > LEAST_DEVIATION
        return cls(columns.mean(axis=0), np.where(varying, 1 / np.where(varying, deviation, 1), 0))

    def apply(self, columns: Floats) -> Floats:
        scaled = np.clip((columns - self.centre) * self.factor, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        return np.asarray(scaled / np.sqrt(max(1, columns.shape[1])), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """One column per group that was fitted on; a group never seen is 0 in all of them."""

    places: Mapping[str, int]

    @classmethod
    def of(cls, groups: Texts) -> "Places":
        return cls({str(name): place for place, name in enumerate(sorted(set(groups)))})

    def apply(self, groups: Texts) -> Floats:
        made = np.zeros((len(groups), len(self.places)))
        for row, group in enumerate(groups):
            place = self.places.get(group)
            if place is not None:
                made[row, place] = 1.0
        return made
