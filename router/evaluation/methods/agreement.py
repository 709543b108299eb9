"""Which second small model to call, and whether two answers are the same. The baseline: escalate where they differ."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Rows, Stage, Texts, texts
from router.evaluation.tables import Floats

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
LEAST_PROMPTS = 30  # of a table that a helper answered, before its usefulness there is believed


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
    """The second small model of each table; for a table never seen, the first of `preferred` that answers there."""

    by_table: Mapping[str, str]
    preferred: Sequence[str]

    def of(self, prompts: Prompts) -> Texts:
        """(P,): a name, "" where none of them answered anything."""
        found = texts([""] * len(prompts))
        for table in sorted(set(prompts.tables)):
            rows = np.flatnonzero(prompts.tables == table)
            there = [self.by_table[table]] if table in self.by_table else list(self.preferred)
            for name in there:
                if name in prompts.answers and np.isfinite(prompts.answers[name].tokens[rows]).any():
                    found[rows] = name
                    break
        return found


def choose_helpers(prompts: Prompts, gain: Floats) -> Helpers:
    """By how much of the variance of *gain* (P,) the agreement with a helper explains, table by table."""
    others = sorted(set(prompts.answers) - {prompts.small})
    explained: dict[str, dict[str, float]] = {}
    for table in sorted(set(prompts.tables)):
        rows = np.flatnonzero(prompts.tables == table)
        of_table = prompts.take(rows)
        for name in others:
            answered = np.isfinite(of_table.answers[name].tokens)
            if answered.sum() < LEAST_PROMPTS or answered.mean() < 0.5:
                continue
            same = agree(of_table, texts([name] * len(rows)))
            explained.setdefault(table, {})[name] = _explained(same, gain[rows])
    by_table = {table: max(sorted(of), key=lambda name: of[name]) for table, of in explained.items()}
    mean = {n: float(np.mean([of[n] for of in explained.values() if n in of] or [0.0])) for n in others}
    return Helpers(by_table, sorted(others, key=lambda name: (-mean[name], name)))


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
