"""Baseline to beat: the mean gain of the prompt's template, shrunk to that of all."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Stage, Texts
from router.evaluation.tables import Floats


@dataclass(frozen=True, slots=True)
class TemplateLookup:
    name: str = "template"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedTemplates":
        return FittedTemplates(shrunk_means(prompts.templates, outcomes.gain))


@dataclass(frozen=True, slots=True)
class ShrunkMeans:
    """The mean of each group and of all; a group never seen has that of all."""

    groups: Mapping[str, float]
    overall: float

    def of(self, groups: Texts) -> Floats:
        return np.array([self.groups.get(group, self.overall) for group in groups], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class FittedTemplates:
    means: ShrunkMeans

    def estimate(self, prompts: Prompts) -> Estimate:
        return Estimate(self.means.of(prompts.templates))


def shrunk_means(groups: Texts, values: Floats) -> ShrunkMeans:
    """Each mean drawn to the overall one by empirical Bayes: a group of n keeps n / (n + within / between), the two
    variances by the method of moments (Efron and Morris, JASA 70, 1975, in its form for unequal groups).
    """
    names, places = np.unique(groups.astype(str), return_inverse=True)
    sizes = np.bincount(places).astype(np.float64)
    means = np.bincount(places, weights=values) / sizes
    overall = float(values.mean())
    within = float(((values - means[places]) ** 2).sum() / max(1, len(values) - len(names)))
    spread = float((sizes * (means - overall) ** 2).sum() - (len(names) - 1) * within)
    scale = len(values) - float((sizes**2).sum()) / len(values)
    between = spread / scale if scale > 0 else 0.0
    kept = sizes * between / (sizes * between + within) if between > 0 else np.zeros(len(names))
    shrunk = overall + kept * (means - overall)
    return ShrunkMeans({str(name): float(mean) for name, mean in zip(names, shrunk, strict=True)}, overall)
