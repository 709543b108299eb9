"""Pointsman before any answer: ridge on the static embedding, the text features and the template's offset."""

from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.methods.chances import Platt, fit_platt
from router.evaluation.methods.columns import Places, Scale
from router.evaluation.methods.ridge import Ridge, fit_ridge
from router.evaluation.samples import Outcomes, Prompts, Stage, Texts
from router.evaluation.tables import Floats
from router.evaluation.views import Views


@dataclass(frozen=True, slots=True)
class PointsmanBefore:
    name: str = "pointsman"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedBefore":
        return fit_before(prompts, outcomes)[0]


@dataclass(frozen=True, slots=True, eq=False)
class TextColumns:
    """Embedding, features and template side by side, as they were scaled on the fitted prompts."""

    centre: Floats  # (256,)
    scale: Scale
    templates: Places

    def of(self, views: Views, templates: Texts) -> Floats:
        """(P, D)."""
        return np.hstack([self.of_text(views), self.templates.apply(templates)])

    def of_text(self, views: Views) -> Floats:
        """(P, D): without the template."""
        return np.hstack([views.embeddings - self.centre, self.scale.apply(views.features)])


@dataclass(frozen=True, slots=True, eq=False)
class FittedBefore:
    columns: TextColumns
    ridge: Ridge  # of gain, small, large
    platts: tuple[Platt, Platt]

    def predict(self, prompts: Prompts) -> Floats:
        """(P, 3): the expected gain, and the scores of the small and the large model, uncalibrated."""
        return self.ridge.predict(self.columns.of(prompts.views, prompts.templates))

    def estimate(self, prompts: Prompts) -> Estimate:
        predicted = self.predict(prompts)
        chances = np.column_stack([platt.chances(predicted[:, 1 + i]) for i, platt in enumerate(self.platts)])
        return Estimate(predicted[:, 0], chances=chances)


def fit_before(prompts: Prompts, outcomes: Outcomes) -> tuple[FittedBefore, Floats]:
    """The model, and (N, 3), what it predicts for each fitted prompt without that prompt."""
    columns = text_columns(prompts.views, prompts.templates)
    wanted = np.column_stack([outcomes.gain, outcomes.small, outcomes.large])
    ridge, left_out = fit_ridge(columns.of(prompts.views, prompts.templates), wanted)
    platts = (fit_platt(left_out[:, 1], outcomes.small), fit_platt(left_out[:, 2], outcomes.large))
    return FittedBefore(columns, ridge, platts), left_out


def text_columns(views: Views, templates: Texts) -> TextColumns:
    return TextColumns(views.embeddings.mean(axis=0), Scale.of(views.features), Places.of(templates))
