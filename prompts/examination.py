"""Running a suite on one tier: render, ask, look, count. Knows neither models nor templates: both are functions.

Whatever goes wrong with a case is a failure of that case, told with it; the run goes on. A run that is cancelled leaves
no count, and its answers in the store it was given: the next one asks only for what is missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from statistics import median
from time import perf_counter
from typing import Any, Protocol, TypeVar

from prompts.answer import Answer, ToolCall
from prompts.assertions import evaluate, too_long
from prompts.assertions.kind import Asks, Assertion, Given, Verdict
from prompts.canonical import digest
from prompts.message import Message, text_of
from prompts.receipt import Binding, Receipt, Result
from prompts.suite import Case, Suite

CONCURRENCY = 4  # answers at a time: what a small server takes beside its own traffic
MOST_SHOWN = 100  # failing cases with their texts
SHOWN_CHARACTERS = 4_000  # of each text
MOST_CALLS = 10  # of tools, of each answer
MOST_REASONS = 5  # of one case in a receipt
REASON_CHARACTERS = 300

Render = Callable[[Case], Sequence[Message]]
Ask = Callable[[Sequence[Message], Mapping[str, Any]], Awaitable[Answer]]
Number = TypeVar("Number", int, Decimal)


class Kept(Protocol):
    """Answers by what they answer, of this run and of earlier ones. A dict is one."""

    def get(self, key: str, /) -> Answer | None: ...

    def __setitem__(self, key: str, answer: Answer, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer to a case: what was rendered, what came back, what each assertion says."""

    messages: tuple[Message, ...]
    answer: Answer
    verdicts: tuple[tuple[Assertion, Verdict], ...] = ()
    passed: bool = False
    is_kept: bool = False  # found in the store

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it failed; empty where it passed."""
        if self.passed:
            return ()
        if self.answer.error is not None:
            return (f"error: {self.answer.error}",)
        return tuple(f"{a.name}: {v.reason}" for a, v in self.verdicts if not v.passed and a.weight)


@dataclass(frozen=True, slots=True)
class Examined:
    """One case, answered as often as it asks for."""

    case: Case
    attempts: tuple[Attempt, ...]

    @property
    def passed(self) -> bool:
        return sum(attempt.passed for attempt in self.attempts) >= self.case.min_pass

    @property
    def result(self) -> Result:
        metrics = sorted({a.metric for a in self.case.assertions if a.metric is not None})
        said = () if self.passed else (reason for attempt in self.attempts for reason in attempt.reasons)
        return Result(
            self.case.id,
            self.passed,
            self.case.tags,
            {metric: self._passed(metric) for metric in metrics},
            tuple(reason[:REASON_CHARACTERS] for reason in dict.fromkeys(said))[:MOST_REASONS],
            sum(attempt.answer.error is not None for attempt in self.attempts),
        )

    def _passed(self, metric: str) -> bool:
        """In enough attempts every assertion of *metric*; whether these decide the case does not matter here."""
        return (
            sum(
                bool(attempt.verdicts) and all(v.passed for a, v in attempt.verdicts if a.metric == metric)
                for attempt in self.attempts
            )
            >= self.case.min_pass
        )


@dataclass(frozen=True, slots=True)
class Examination:
    """All cases of a suite on one tier. `failures` are the first of the failing ones, with their texts cut short."""

    results: tuple[Result, ...]
    failures: tuple[Examined, ...]
    seconds: float
    answers: int
    kept: int  # of the answers, found in the store
    median_seconds: float | None
    cost_usd: Decimal | None
    prompt_tokens: int | None
    completion_tokens: int | None

    def receipt(self, binding: Binding, tier: str, made_at: datetime) -> Receipt:
        return Receipt(
            binding,
            tier,
            self.results,
            made_at,
            self.seconds,
            self.median_seconds,
            self.cost_usd,
            self.prompt_tokens,
            self.completion_tokens,
        )


async def examine(
    suite: Suite,
    render: Render,
    ask: Ask,
    *,
    build: str,
    parameters: Mapping[str, Any],
    asks: Asks = Asks(),  # noqa: B008  # frozen
    kept: Kept | None = None,
    concurrency: int = CONCURRENCY,
    progress: Callable[[int, int, Examined], None] | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Examination:
    """Answer every case of *suite*. *ask* answers messages with parameters by the model *build*.

    *progress* hears how many cases are done, of how many, and the last one.
    """
    began = clock()
    sums = _Sums()
    waiting = iter(enumerate(suite.cases))

    async def work() -> None:
        for place, case in waiting:
            one = await examine_case(case, render, ask, build, parameters, asks, kept)
            sums.add(place, one)
            if progress is not None:
                progress(len(sums.results), len(suite.cases), one)

    async with asyncio.TaskGroup() as workers:
        for _ in range(max(1, min(concurrency, len(suite.cases)))):
            workers.create_task(work())
    return sums.examination(clock() - began)


async def examine_case(
    case: Case,
    render: Render,
    ask: Ask,
    build: str,
    parameters: Mapping[str, Any],
    asks: Asks = Asks(),  # noqa: B008  # frozen
    kept: Kept | None = None,
) -> Examined:
    """One case. Only being cancelled is raised."""
    try:
        messages = tuple(render(case))
    except Exception as error:  # whatever a template does: this case fails, the others are examined
        failed = Attempt((), Answer(error=f"not rendered: {type(error).__name__}: {error}"))
        return Examined(case, (failed,) * case.repeat)
    attempts = []
    for repetition in range(case.repeat):
        answer, is_kept = await _answered(messages, ask, build, parameters, repetition, kept)
        attempts.append(replace(await _looked_at(case, messages, answer, asks), is_kept=is_kept))
    return Examined(case, tuple(attempts))


async def _answered(
    messages: tuple[Message, ...],
    ask: Ask,
    build: str,
    parameters: Mapping[str, Any],
    repetition: int,
    kept: Kept | None,
) -> tuple[Answer, bool]:
    """The answer, and whether it was kept. What is no answer is not kept: the next run asks again."""
    try:
        key = digest([list(messages), build, dict(parameters), repetition])
        answer = kept.get(key) if kept is not None else None
        if answer is not None:
            return answer, True
        answer = await ask(messages, parameters)
        if problem := too_long(answer):
            answer = Answer(error=problem)
        if kept is not None and answer.error is None:
            kept[key] = answer
    except Exception as error:  # an engine that fails, a store that is full
        return Answer(error=f"{type(error).__name__}: {error}"), False
    return answer, False


async def _looked_at(case: Case, messages: tuple[Message, ...], answer: Answer, asks: Asks) -> Attempt:
    if answer.error is not None:
        return Attempt(messages, answer)
    given = Given(answer, messages)
    verdicts = tuple([(assertion, await evaluate(assertion, given, asks)) for assertion in case.assertions])
    return Attempt(messages, answer, verdicts, _passes(case, verdicts))


def _passes(case: Case, verdicts: Sequence[tuple[Assertion, Verdict]]) -> bool:
    deciding = [(assertion.weight, verdict) for assertion, verdict in verdicts if assertion.weight]
    if not deciding or not all(verdict.evaluated for _, verdict in deciding):
        return False
    if case.threshold is None:
        return all(verdict.passed for _, verdict in deciding)
    scored = sum(weight * verdict.score for weight, verdict in deciding)
    return scored >= case.threshold * sum(weight for weight, _ in deciding)


class _Sums:
    """What is kept of cases while others are examined: counts and figures, and of the first failures their texts."""

    def __init__(self) -> None:
        self.results: dict[int, Result] = {}
        self._failures: dict[int, Examined] = {}
        self._figures: list[Answer] = []  # without texts
        self._kept = 0

    def add(self, place: int, one: Examined) -> None:
        self.results[place] = one.result
        if not one.passed and len(self._failures) < MOST_SHOWN:
            self._failures[place] = replace(one, attempts=tuple(_cut(attempt) for attempt in one.attempts))
        self._kept += sum(attempt.is_kept for attempt in one.attempts)
        answers = (attempt.answer for attempt in one.attempts if attempt.answer.error is None)
        self._figures += [replace(answer, text="", tool_calls=()) for answer in answers]

    def examination(self, seconds: float) -> Examination:
        took = [answer.seconds for answer in self._figures if answer.seconds is not None]
        return Examination(
            tuple(self.results[place] for place in sorted(self.results)),
            tuple(self._failures[place] for place in sorted(self._failures)),
            seconds,
            len(self._figures),
            self._kept,
            median(took) if took else None,
            _total((answer.cost_usd for answer in self._figures), Decimal(0)),
            _total((answer.prompt_tokens for answer in self._figures), 0),
            _total((answer.completion_tokens for answer in self._figures), 0),
        )


def _total(each: Iterator[Number | None], zero: Number) -> Number | None:
    """None where one is not known."""
    total = zero
    for one in each:
        if one is None:
            return None
        total += one
    return total


def _cut(attempt: Attempt) -> Attempt:
    """With its texts cut short and nothing but texts, so that many failures can be kept and shown."""
    calls = tuple(
        ToolCall(_short(call.name), _short(call.arguments)) for call in attempt.answer.tool_calls[:MOST_CALLS]
    )
    messages = tuple({"role": m.get("role"), "content": _short(text_of(m))} for m in attempt.messages)
    return replace(
        attempt, messages=messages, answer=replace(attempt.answer, text=_short(attempt.answer.text), tool_calls=calls)
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text):,} characters)"
