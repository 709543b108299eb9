"""What the router is asked, what it knows, and what it answers. Types only."""

from collections.abc import Callable, Container, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from models.catalog import Ability, Model
from router.bar import Bar, Shown, Verdict
from router.check import Check
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.expected import TYPICAL, Expect, Expected
from router.looks import Looks, looks_of
from router.opinion import SecondOpinion
from router.record import Given
from router.trust import Threshold


@dataclass(frozen=True, slots=True)
class Question:
    """A request as the router sees it: its template, None when nothing in it is fixed, and `look`, which says what it
    looks like and is called only when that is asked for. `checkable`: its answer can be looked at before the client
    sees it. `streamed`: by its beginning, as the rest goes on to the client.
    `expect`: what it is expected to take of a model; None where nothing but a typical request is known.
    """

    template: str | None
    look: Callable[[], Looks] = looks_of
    streamed: bool = False
    checkable: bool = False
    expect: Expect | None = None


class Mode(StrEnum):
    """What is made of the evidence on a template."""

    OBSERVE = "observe"  # decide, say so, and serve the safe tier
    APPLY = "apply"
    OFF = "off"  # neither decide nor count


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Everything a strategy may look at: a snapshot, replaced whole.

    `models` go from the cheapest tier to the safe one. `thresholds`, by model build, say from which expected difference
    on looks alone may be trusted; `checks`, by template, build and whether it is streamed, what an answer must show;
    `second_opinions`, by template and build, who has to say the same.
    `learned`, by template and build, is what was learned at run time: it has the last word over `evidence`.
    """

    models: Sequence[Model]
    evidence: Evidence
    difficulty: Difficulty
    thresholds: Mapping[str, Threshold]
    bar: Bar
    checks: Mapping[tuple[str, str, bool], Check] = field(default_factory=dict)
    learned: Mapping[tuple[str, str], Shown] = field(default_factory=dict)
    mode: Mode = Mode.APPLY
    modes: Mapping[str, Mode] = field(default_factory=dict)  # of templates that have one of their own
    second_opinions: Mapping[tuple[str, str], Sequence[SecondOpinion]] = field(default_factory=dict)
    _given: Mapping[tuple[str, str], Shown] = field(init=False)
    _shown: Mapping[tuple[str, str], Shown] = field(init=False)
    _typical_usd: Mapping[str, Decimal | None] = field(init=False)
    _asked: Bar | None = None  # in place of `bar`, by one request

    def __post_init__(self) -> None:
        cheaper = {model.build for model in self.models[:-1]}
        given = {key: self.bar.judge(t) for key, t in self.evidence.tallies.items() if key[1] in cheaper}
        object.__setattr__(self, "_given", given)  # here, as a bound takes up to 50 ms and a decision may not
        object.__setattr__(self, "_shown", {**given, **self.learned})
        typical_usd = {model.name: TYPICAL.cost_usd(model) for model in self.models}
        object.__setattr__(self, "_typical_usd", typical_usd)

    @property
    def safe(self) -> Model:
        return self.models[-1]

    def given(self, template: str, build: str) -> Given | None:
        """What the tables say of a build under the safe tier; None where they say nothing."""
        shown = self._given.get((template, build))
        return Given(self.evidence.tallies[template, build], shown) if shown else None

    @property
    def suspended(self) -> int:
        """How many templates times models an alarm keeps from being trusted."""
        return sum(shown.verdict is Verdict.SUSPENDED for shown in self.learned.values())

    def learning(self, learned: Mapping[tuple[str, str], Shown]) -> "Knowledge":
        """The same with all that was learned until now."""
        later = copy(self)
        object.__setattr__(later, "learned", learned)
        object.__setattr__(later, "_shown", {**self._given, **learned})
        return later

    def in_modes(self, mode: Mode, modes: Mapping[str, Mode]) -> "Knowledge":
        """The same, with *modes* by template and *mode* for all others."""
        other = copy(self)
        object.__setattr__(other, "mode", mode)
        object.__setattr__(other, "modes", modes)
        return other

    def knows(self, template: str) -> bool:
        """Whether there are outcomes of any build on this very template."""
        return any((template, model.build) in self._shown for model in self.models[:-1])

    def mode_of(self, template: str | None) -> Mode:
        return self.modes.get(template, self.mode) if template and self.modes else self.mode

    def among(self, names: Container[str]) -> "Knowledge":
        """The same with fewer models. Without the safe tier nothing is proved: outcomes were compared with its."""
        kept = tuple(model for model in self.models if model.name in names)
        if len(kept) == len(self.models):
            return self
        fewer = copy(self)
        object.__setattr__(fewer, "models", kept)
        if kept and kept[-1] is not self.safe:
            object.__setattr__(fewer, "_shown", {})
            object.__setattr__(fewer, "thresholds", {})
            object.__setattr__(fewer, "checks", {})
            object.__setattr__(fewer, "second_opinions", {})
        return fewer

    def held_to(self, bar: Bar) -> "Knowledge":
        """The same against another *bar* of the same kind. What was calibrated for a lower bar is not trusted then."""
        other = copy(self)
        object.__setattr__(other, "_asked", bar)
        if not bar.asks_no_more_than(self.bar):
            object.__setattr__(other, "thresholds", {})
            object.__setattr__(other, "checks", {})
            object.__setattr__(other, "second_opinions", {})
        return other

    def about(self, template: str | None, build: str) -> Shown | None:
        """What the outcomes of a build under the safe tier show against the bar; None where there are none."""
        shown = self._shown.get((template, build)) if template else None
        return shown if shown is None or self._asked is None else self._asked.rejudged(shown)

    def leaves_open(self, template: str | None, build: str) -> bool:
        """Whether its looks may decide of a prompt: its template was measured, and outcomes alone have not decided.

        What a solve model makes of a template that it was not fitted on is no better than a guess (router/README.md).
        """
        shown = self.about(template, build)
        return (
            template is not None
            and (shown is None or shown.verdict is Verdict.UNKNOWN)
            and self.difficulty.compares(build, self.safe.build, template)
        )

    def check(self, question: Question, model: Model) -> Check | None:
        """What an answer of *model* would have to show; None where nothing would prove it."""
        if not question.checkable or question.template is None or Ability.LOGPROBS not in model.abilities:
            return None
        if self._is_suspended(question.template, model.build):  # the check was calibrated before its cause
            return None
        return self.checks.get((question.template, model.build, question.streamed))

    def opinions(self, question: Question, model: Model) -> tuple[SecondOpinion, ...]:
        """Those of the other models here, one of which would have to say the same as *model*."""
        if not self.second_opinions or not question.checkable or question.streamed or question.template is None:
            return ()
        known = self.second_opinions.get((question.template, model.build), ())
        if not known or self._is_suspended(question.template, model.build):
            return ()
        here = {other.build for other in self.models[:-1] if not self._is_suspended(question.template, other.build)}
        return tuple(opinion for opinion in known if opinion.second in here)

    def _is_suspended(self, template: str, build: str) -> bool:
        shown = self._shown.get((template, build))
        return shown is not None and shown.verdict is Verdict.SUSPENDED

    def candidates(self, question: Question) -> "tuple[Candidate, ...]":
        """What is known of each model for this request, cheapest tier first."""
        found: list[Candidate] = []
        decided = False  # by outcomes of a cheaper model; then nobody looks at the prompt, which takes time
        looks: Looks | None = None
        for model in self.models:
            cheaper = model is not self.safe
            shown = self.about(question.template, model.build) if cheaper else None
            threshold = self.thresholds.get(model.build) if cheaper else None
            score = None
            if threshold is not None and not decided and self.leaves_open(question.template, model.build):
                looks = question.look() if looks is None else looks
                score = self.difficulty.expected_difference(model.build, self.safe.build, looks, question.template)
            check = self.check(question, model) if cheaper else None
            opinions = self.opinions(question, model) if cheaper else ()
            expected = TYPICAL if question.expect is None else question.expect(model)
            usd = self._typical_usd[model.name] if expected is TYPICAL else expected.cost_usd(model)
            found.append(Candidate(model.name, model.build, usd, shown, threshold, score, check, opinions, expected))
            decided = decided or (shown is not None and shown.verdict is Verdict.HOLDS)
        return tuple(found)


class Basis(StrEnum):
    """What a decision rests on."""

    PINNED = "pinned"  # the client, or the operator's strategy, named the model
    EVIDENCE = "evidence"  # outcomes of this template
    CANARY = "canary"  # a version on trial, which has passed its tests, takes a share of its label's requests
    CHECK = "check"  # outcomes of answers that show what this one will have to, before the client sees it
    DIFFICULTY = "difficulty"  # outcomes of prompts that look like this one
    COST = "cost"  # outcomes prove a cheaper model too, which would cost more this time; the safe tier serves
    SAFE = "safe"  # nothing proved a cheaper model
    FAULT = "fault"  # the router itself failed; the safe tier serves


@dataclass(frozen=True, slots=True)
class Candidate:
    """All that a strategy looks at of one model for one request, so that the same choice can be made again from it.

    `expected_usd`: what the request is expected to cost, None for unknown, made of `expected`, which is None only in
    what an earlier version wrote. `score`: the expected difference by looks, None where nobody has looked: there is no
    `threshold`, or outcomes have decided already.
    """

    model: str
    build: str
    expected_usd: Decimal | None = None
    shown: Shown | None = None
    threshold: Threshold | None = None
    score: float | None = None
    check: Check | None = None
    opinions: tuple[SecondOpinion, ...] = ()
    expected: Expected | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known about one model for this request, in words (`says`) and as a verdict against the bar."""

    model: str
    basis: Basis
    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Which models to try, in this order, and why. Later ones are never of a lower tier than the first.

    `check`: what the first one's answer must show; it is thrown away, and the next one answers, when it does not.
    `second`: who is asked besides the first one, where the check is a second opinion.
    `chosen`: the strategy's own order, where a session or the mode of its template put another in its place. `group`:
    whose evidence decided, where that is not the template's own (`router.groups`).
    """

    order: tuple[str, ...]
    basis: Basis
    reason: str
    template: str | None
    estimates: tuple[Estimate, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    chosen: tuple[str, ...] = ()
    check: Check | SecondOpinion | None = None
    second: str | None = None
    group: str | None = None

    @property
    def model(self) -> str:
        return self.order[0]


class Strategy(Protocol):
    """A way to choose. A frozen dataclass whose fields are its configuration; pure."""

    def decide(self, question: Question, knowledge: Knowledge) -> Decision: ...
