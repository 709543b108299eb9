"""What a router may see of prompts, and what became of them. Two types that are kept apart on purpose.

An estimator gets `Prompts` to score and never their `Outcomes`, so that it cannot see what it is judged by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.evaluation.tables import Floats
from router.evaluation.views import Views

Rows = NDArray[np.intp]
Texts = NDArray[np.object_]


class Stage(StrEnum):
    """BEFORE: only the prompt is seen. AFTER: the small model's answer and that of one more small model, too."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """One small model's answers to P prompts: the extracted text, None where there is none, and the length in tokens,
    NaN where the model did not answer.
    """

    texts: Texts  # (P,)
    tokens: Floats  # (P,)

    def take(self, rows: Rows) -> "Answers":
        return Answers(self.texts[rows], self.tokens[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """P prompts of one set. `answers` are those of the small models, by name; of which two may be called."""

    ids: Texts  # (P,)
    texts: Texts  # (P,)
    templates: Texts  # (P,), `table/benchmark`
    tables: Texts  # (P,)
    views: Views
    small: str
    answers: Mapping[str, Answers]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Rows) -> "Prompts":
        return Prompts(
            ids=self.ids[rows],
            texts=self.texts[rows],
            templates=self.templates[rows],
            tables=self.tables[rows],
            views=self.views.take(rows),
            small=self.small,
            answers={name: answers.take(rows) for name, answers in self.answers.items()},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What became of P prompts: scores (0 to 1) of the small and the large model, and of every model in the tables."""

    small: Floats  # (P,)
    large: Floats  # (P,)
    others: Floats  # (P, M), NaN where a model did not answer; the pair is among them
    models: tuple[str, ...]  # (M,)

    @property
    def gain(self) -> Floats:
        """Of escalating: what the large model's answer is better, -1 to 1."""
        return self.large - self.small

    def take(self, rows: Rows) -> "Outcomes":
        return Outcomes(self.small[rows], self.large[rows], self.others[rows], self.models)


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What each prompt costs by each call, in one unit (`unit` names it); NaN where it is not known."""

    unit: str
    small: Floats  # (P,)
    large: Floats  # (P,)
    by_model: Mapping[str, Floats]  # small models, (P,) each

    def take(self, rows: Rows) -> "Costs":
        return Costs(self.unit, self.small[rows], self.large[rows], {m: c[rows] for m, c in self.by_model.items()})


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    prompts: Prompts
    outcomes: Outcomes
    costs: Costs

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Rows) -> "Sample":
        return Sample(self.prompts.take(rows), self.outcomes.take(rows), self.costs.take(rows))


def texts(values: Sequence[Any]) -> Texts:
    """An array of objects, one per value, whatever their lengths."""
    made = np.empty(len(values), dtype=object)
    made[:] = list(values)
    return made
