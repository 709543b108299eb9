"""A suite: the cases that a template's answers are tested on, and the bars that they must hold. Values; no I/O.

How one is written is `prompts/suite_file.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from prompts.assertions import KINDS
from prompts.assertions.kind import Assertion, Needs
from prompts.canonical import digest
from prompts.message import Message

ID_HEX_DIGITS = 12  # 48 bits: two of 10,000 cases collide with a chance of 2e-7, and a suite with two is refused
MOST_CASES = 10_000
FORM = 1  # of what the digest is over
TRAIN_SHARE, VALIDATION_SHARE = 0.5, 0.25


class Split(StrEnum):
    """What an optimiser may learn from, what it may choose by, and what it never sees."""

    TRAIN = "train"
    VALIDATION = "validation"
    HELD_OUT = "held-out"


@dataclass(frozen=True, slots=True)
class Case:
    """One test: what the template is given and what must be true of the answers.

    It is answered `repeat` times and passes when at least `min_pass` of the answers pass. An answer passes when all its
    assertions of weight over 0 do; with a `threshold`, when their weighted mean score is at least that.
    """

    id: str
    assertions: tuple[Assertion, ...]
    vars: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()  # the client's, where the template leaves a place for them
    tags: tuple[str, ...] = ()
    repeat: int = 1
    min_pass: int = 1
    threshold: float | None = None
    description: str = ""

    @property
    def inputs(self) -> str:
        """A digest of what the template is given: a case is known by it, however its assertions change."""
        return inputs_digest(self.vars, self.messages)

    @property
    def mark(self) -> str:
        """By which a text remembers that it was made from this case."""
        return content_id(self.vars, self.messages)

    @property
    def split(self) -> Split:
        """By the hash of its inputs: other cases come and go, assertions are corrected, and it stays where it was."""
        place = int(digest(["split", self.inputs])[:8], 16) / 16**8
        if place < TRAIN_SHARE:
            return Split.TRAIN
        return Split.VALIDATION if place < TRAIN_SHARE + VALIDATION_SHARE else Split.HELD_OUT


def inputs_digest(variables: Mapping[str, Any], messages: Sequence[Message]) -> str:
    return digest([dict(variables), list(messages)])


def content_id(variables: Mapping[str, Any], messages: Sequence[Message]) -> str:
    """The id of a case that was given none, and the mark of any (`Case.mark`)."""
    return inputs_digest(variables, messages)[:ID_HEX_DIGITS]


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars as they are written: `0.9`, `safe-0.1`, or `1` for every case. Whoever holds them knows what they mean."""

    default: str | None = None
    tiers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)

    def of_tier(self, tier: str) -> str | None:
        return self.tiers.get(tier, self.default)


@dataclass(frozen=True)
class Suite:
    """Cases with different ids and different inputs, so that each is a trial of its own. Bars are no part of the
    digest: what was counted stays true when they are changed.
    """

    cases: tuple[Case, ...]
    bars: Bars = Bars()

    @cached_property
    def digest(self) -> str:
        """Over all that can change a result: not the order of cases, their descriptions, or how they are written."""
        cases = sorted(self.cases, key=lambda case: case.id)
        return digest({"form": FORM, "cases": [_canonical(case) for case in cases]})

    @cached_property
    def needs(self) -> frozenset[Needs]:
        """Who must be there for the suite to be run."""
        kinds = (KINDS[assertion.kind] for case in self.cases for assertion in case.assertions)
        return frozenset(kind.needs for kind in kinds if kind.needs is not None)

    def only(self, *splits: Split) -> "Suite":
        """The cases of *splits*: a suite of its own, with another digest."""
        return Suite(tuple(case for case in self.cases if case.split in splits), self.bars)


def _canonical(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "vars": dict(case.vars),
        "messages": list(case.messages),
        "assert": [[a.name, a.value, a.threshold, a.tolerance, a.weight, a.metric] for a in case.assertions],
        "tags": sorted(case.tags),
        "repeat": case.repeat,
        "min_pass": case.min_pass,
        "threshold": case.threshold,
    }
