"""Where candidates are tried: three things that a search may do, and what came of each. The rest is the search's own.

`propose` asks the model that writes, `evaluate` tries a candidate on cases, `stop` says whether to go on. A search that
rests on these can be replaced by another, whoever's loop it runs in.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prompts.assertions.kind import Asks
from prompts.canonical import digest
from prompts.examination import Ask, Examined, Kept, examine_case
from prompts.message import Message
from prompts.optimise.budget import Purse
from prompts.optimise.candidate import Candidate, asked_with, characters, draft
from prompts.optimise.guard import Guard
from prompts.render import render
from prompts.suite import Case, Split, Suite
from prompts.template import Template

FEWEST_CASES = 8  # to learn from, and to choose by
CONCURRENCY = 2
WRITING: Mapping[str, Any] = {"temperature": 0, "max_tokens": 600}  # of whoever writes a new text


class Stopped(Exception):
    """The search is over, in the middle of whatever it was doing; the message says why."""


class TooFewCases(ValueError):
    """A suite cannot be searched with; the message says how many cases it would take."""


@dataclass(frozen=True, slots=True)
class Cases:
    """What a search may see of a suite. The held-out cases are not in it."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]

    @classmethod
    def of(cls, suite: Suite) -> "Cases":
        """Raises TooFewCases."""
        found = cls(suite.only(Split.TRAIN).cases, suite.only(Split.VALIDATION).cases)
        held_out = len(suite.only(Split.HELD_OUT).cases)
        if min(len(found.train), len(found.validation), held_out) < FEWEST_CASES:
            raise TooFewCases(
                f"the suite has {len(found.train)} cases to learn from, {len(found.validation)} to choose by and "
                f"{held_out} held out; each needs {FEWEST_CASES}: write some {FEWEST_CASES * 6} cases or more"
            )
        return found


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate on some cases. Refused (`problem`): none was asked. Not `whole`: it could not win any more."""

    candidate: Candidate
    name: str
    examined: tuple[Examined, ...] = ()
    whole: bool = True
    problem: str | None = None

    @property
    def passed(self) -> int:
        return sum(one.passed for one in self.examined)

    @property
    def rank(self) -> tuple[int, int]:
        """More passed is better; of two with as many the shorter one."""
        return self.passed, -characters(self.candidate)


class Trials(Protocol):
    """What a search may do."""

    @property
    def cases(self) -> Cases: ...

    @property
    def best(self) -> Trial:
        """Of those tried on all validation cases."""

    async def propose(self, request: str) -> str:
        """What the writing model says to *request*; empty where it says nothing. Raises Stopped."""

    async def evaluate(
        self, candidate: Candidate, cases: Sequence[Case], name: str, at_least: int | None = None
    ) -> Trial:
        """Try *candidate* on *cases*, and give up as soon as it cannot pass *at_least* of them. Raises Stopped."""

    def stop(self) -> str | None:
        """Why the search is over; None while it is not."""


@dataclass
class Bench:
    """Trials of texts for *tier*. *enough*: whether so many passed of so many show what is wanted, when so many texts
    were tried on the same cases. *writer*: None where no model could propose anything. *heard* is told of every trial.
    """

    template: Template
    tier: str
    cases: Cases
    guard: Guard
    purse: Purse
    ask: Ask
    build: str
    enough: Callable[[int, int, int], bool]
    writer: Ask | None = None
    writer_build: str = ""
    kept: Kept | None = None
    asks: Asks = field(default_factory=Asks)
    concurrency: int = CONCURRENCY
    heard: Callable[[Trial], None] = lambda trial: None
    log: list[Trial] = field(default_factory=list)
    _best: Trial | None = None
    _chosen_among: int = 0

    @property
    def best(self) -> Trial:
        assert self._best is not None, "the text that is there is tried first"
        return self._best

    def stop(self) -> str | None:
        if self._best is not None and self.enough(self._best.passed, len(self.cases.validation), self._chosen_among):
            return f"the bar is met on validation cases: {self._best.passed}/{len(self.cases.validation)}"
        return self.purse.empty()

    async def propose(self, request: str) -> str:
        if self.writer is None:
            return ""
        self._check()
        messages: list[Message] = [{"role": "user", "content": request}]
        key = digest([messages, self.writer_build, dict(WRITING), "written"])
        answer = self.kept.get(key) if self.kept is not None else None
        if answer is None:
            self.purse.reserve(1)
            answer = await self.writer(messages, WRITING)
            self.purse.pay(answer.cost_usd)
            if self.kept is not None and answer.error is None:
                self.kept[key] = answer
        return answer.text if answer.error is None else ""

    async def evaluate(
        self, candidate: Candidate, cases: Sequence[Case], name: str, at_least: int | None = None
    ) -> Trial:
        self._check()
        problem = self.guard.problem(candidate)
        trial = Trial(candidate, name, problem=problem)
        if problem is None:
            examined = await self._examined(candidate, cases, at_least)
            trial = Trial(candidate, name, examined, whole=len(examined) == len(cases))
        self.log.append(trial)
        if problem is None and tuple(cases) == self.cases.validation:
            self._chosen_among += 1
            if trial.whole and (self._best is None or trial.rank > self._best.rank):
                self._best = trial
        self.heard(trial)
        return trial

    def _check(self) -> None:
        if reason := self.stop():
            raise Stopped(reason)

    async def _examined(
        self, candidate: Candidate, cases: Sequence[Case], at_least: int | None
    ) -> tuple[Examined, ...]:
        made = draft(self.template, self.tier, candidate)
        parameters = asked_with(made, self.tier)
        found: dict[int, Examined] = {}
        waiting = iter(enumerate(cases))

        def may_win() -> bool:
            failed = sum(not one.passed for one in found.values())
            return at_least is None or len(cases) - failed >= at_least

        async def work() -> None:
            for place, case in waiting:
                if not may_win():
                    return
                self._reserve(case.repeat)
                one = await examine_case(
                    case,
                    lambda case: render(made, self.tier, case.vars, case.messages).messages,
                    self.ask,
                    self.build,
                    parameters,
                    self.asks,
                    self.kept,
                )
                self._settle(one)
                found[place] = one

        await _together(work() for _ in range(self.concurrency))
        return tuple(found[place] for place in sorted(found))

    def _reserve(self, calls: int) -> None:
        if reason := self.purse.empty(calls):
            raise Stopped(reason)
        self.purse.reserve(calls)

    def _settle(self, one: Examined) -> None:
        for attempt in one.attempts:
            if attempt.is_kept or not attempt.messages:
                self.purse.refund(1)
            elif attempt.answer.error is None:
                self.purse.pay(attempt.answer.cost_usd)


async def _together(work: Iterator[Any]) -> None:
    """All of *work*; of several that were stopped, one says so."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except* Stopped as stopped:
        raise stopped.exceptions[0] from None
