"""Embedding and text features side by side, as they were scaled on the fitted prompts."""

from dataclasses import dataclass

import numpy as np

from router.evaluation.methods.columns import Scale
from router.evaluation.tables import Floats
from router.evaluation.views import Views


@dataclass(frozen=True, slots=True, eq=False)
class TextColumns:
    centre: Floats  # (256,)
    scale: Scale

    def of(self, views: Views) -> Floats:
        """(P, D)."""
        return np.hstack([views.embeddings - self.centre, self.scale.apply(views.features)])


def text_columns(views: Views) -> TextColumns:
    return TextColumns(views.embeddings.mean(axis=0), Scale.of(views.features))
