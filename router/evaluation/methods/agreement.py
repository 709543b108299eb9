"""Which second small model to call, and whether two answers are the same. The baseline: escalate where they differ."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Rows, Stage, Texts, texts
from router.evaluation.tables import Floats

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
LEAST_PROMPTS = 30  # that a helper answered, before its usefulness there is believed
TABLE_WEIGHT_PROMPTS = 1000  # a template of so many prompts counts as much as its table, in choosing its helper

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Agreement:
    name: str = "agreement"
    stage: Stage = Stage.AFTER

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedAgreement":
        return FittedAgreement(choose_helpers(prompts, outcomes.gain))


@dataclass(frozen=True, slots=True)
class FittedAgreement:
    helpers: "Helpers"

    def estimate(self, prompts: Prompts) -> Estimate:
        called = self.helpers.of(prompts)
        return Estimate(1 - agree(prompts, called), helpers=called)


@dataclass(frozen=True, slots=True)
class Helpers:
    """The second small model of each template; of each table, for a template never seen; for a table never seen, the
    first of `preferred` that answers there.
    """

    by_template: Mapping[str, str]
    by_table: Mapping[str, str]
    preferred: Sequence[str]

    def of(self, prompts: Prompts) -> Texts:
        """(P,): a name, "" where none of them answered anything."""
        there = {name: np.isfinite(answers.tokens) for name, answers in prompts.answers.items()}
        found = texts([""] * len(prompts))
        for row, (template, table) in enumerate(zip(prompts.templates, prompts.tables, strict=True)):
            chosen = self.by_template.get(template) or self.by_table.get(table)
            wanted = (chosen,) if chosen else self.preferred
            found[row] = next((name for name in wanted if name in there and there[name][row]), "")
        return found


def choose_helpers(prompts: Prompts, gain: Floats) -> Helpers:
    """By how much of the variance of *gain* (P,) the agreement with a helper explains: in the template, of which a
    small one counts less than its table.
    """
    others = sorted(set(prompts.answers) - {prompts.small})
    by_table = {table: _explained_by(prompts, gain, prompts.tables == table, others) for table in set(prompts.tables)}
    by_template = {}
    for template in sorted(set(prompts.templates)):
        inside = prompts.templates == template
        of_table = by_table[prompts.tables[inside][0]]
        of_template = _explained_by(prompts, gain, inside, sorted(of_table))
        size = int(inside.sum())
        both = {n: size * of_template.get(n, 0.0) + TABLE_WEIGHT_PROMPTS * of for n, of in of_table.items()}
        if both:
            by_template[template] = max(sorted(both), key=lambda name: both[name])
    mean = {n: float(np.mean([of[n] for of in by_table.values() if n in of] or [0.0])) for n in others}
    return Helpers(
        by_template,
        {table: max(sorted(of), key=lambda name: of[name]) for table, of in by_table.items() if of},
        sorted(others, key=lambda name: (-mean[name], name)),
    )


def _explained_by(prompts: Prompts, gain: Floats, inside: Mask, helpers: Sequence[str]) -> dict[str, float]:
    """The variance explained by each of *helpers* that answered most of the prompts that are *inside*."""
    rows = np.flatnonzero(inside)
    those = prompts.take(rows)
    found = {}
    for name in helpers:
        answered = np.isfinite(those.answers[name].tokens)
        if answered.sum() >= LEAST_PROMPTS and answered.mean() > 0.5:
            found[name] = _explained(agree(those, texts([name] * len(rows))), gain[rows])
    return found


def agree(prompts: Prompts, helpers: Texts) -> Floats:
    """(P,): 1 where the small model and the helper of the prompt gave the same answer, 0 otherwise or without one."""
    found = np.zeros(len(prompts))
    small = prompts.answers[prompts.small].texts
    for name in sorted(set(helpers) - {""}):
        rows: Rows = np.flatnonzero(helpers == name)
        other = prompts.answers[name].texts
        found[rows] = [same_answer(small[row], other[row]) for row in rows]
    return found


def same_answer(one: str | None, other: str | None) -> bool:
    """Numbers by value, anything else by its characters without case, spaces, quotes and dollar signs."""
    return one is not None and other is not None and (key := answer_key(one)) != "" and key == answer_key(other)


def answer_key(answer: str) -> str:
    folded = re.sub(r"[\s\"'`$]", "", answer.casefold()).rstrip(".")
    number = folded.replace(",", "").rstrip("%")
    if NUMBER.fullmatch(number):
        return f"{float(number):.10g}"
    return folded


def _explained(groups: Floats, values: Floats) -> float:
    overall = values.mean()
    return float(sum((groups == g).mean() * (values[groups == g].mean() - overall) ** 2 for g in np.unique(groups)))
