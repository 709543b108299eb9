"""Running a suite: what goes wrong fails a case and never the run, and nothing that went wrong passes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.answer import Answer, ToolCall
from prompts.assertions.kind import Assertion
from prompts.examination import (
    MOST_CALLS,
    MOST_REASONS,
    MOST_SHOWN,
    SHOWN_CHARACTERS,
    Examination,
    Examined,
    Kept,
    examine,
    examine_case,
)
from prompts.message import Message
from prompts.receipt import Binding, Count
from prompts.suite import Case, Suite

RIGHT = Assertion("equals", value="yes")
Said = Callable[[str, int], Answer]


def suite(cases: int, **same: Any) -> Suite:
    usual: dict[str, Any] = {"assertions": (RIGHT,)}
    return Suite(tuple(Case(f"c{n}", vars={"n": n}, **{**usual, **same}) for n in range(cases)))


def render(case: Case) -> list[Message]:
    return [{"role": "user", "content": f"{case.vars['n']}"}]


class Model:
    """Says *say* of the case and of how often it was asked before; knows how many questions it had at a time."""

    def __init__(self, say: Said) -> None:
        self.say = say
        self.asked: list[str] = []
        self.open = 0
        self.most_open = 0

    async def __call__(self, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
        assert parameters == {"temperature": 0}
        text = messages[0]["content"]
        times = self.asked.count(text)
        self.asked.append(text)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        return self.say(text, times)


def run(suite: Suite, ask: Callable[..., Awaitable[Answer]], **how: Any) -> Examination:
    return asyncio.run(examine(suite, how.pop("render", render), ask, build="b", parameters={"temperature": 0}, **how))


def passed(examination: Examination) -> list[str]:
    return [result.case for result in examination.results if result.passed]


def yes(text: str, times: int) -> Answer:
    return Answer("yes", seconds=0.5, cost_usd=Decimal("0.001"), prompt_tokens=10, completion_tokens=1)


def test_counts_figures_and_failures() -> None:
    def say(text: str, times: int) -> Answer:
        return yes(text, times) if text != "1" else replace(yes(text, times), text="no", seconds=2.5)

    ticks = iter([10.0, 17.5])
    examination = run(suite(3), Model(say), clock=lambda: next(ticks))
    assert passed(examination) == ["c0", "c2"]
    assert examination.seconds == 7.5
    assert (examination.answers, examination.kept, examination.median_seconds) == (3, 0, 0.5)
    assert (examination.cost_usd, examination.prompt_tokens, examination.completion_tokens) == (Decimal("0.003"), 30, 3)
    (failure,) = examination.failures
    assert failure.case.id == "c1"
    assert failure.attempts[0].messages == ({"role": "user", "content": "1"},)
    assert failure.attempts[0].answer.text == "no"
    assert failure.attempts[0].reasons == ("equals: is not 'yes'",)
    receipt = examination.receipt(Binding("t", "s", "p", "b"), "small", datetime(2026, 1, 1, tzinfo=UTC))
    assert (receipt.count, receipt.cost_usd, receipt.seconds) == (Count(2, 3), Decimal("0.003"), 7.5)
    assert receipt.results[1].reasons == ("equals: is not 'yes'",)


def test_what_one_answer_does_not_tell_is_not_known_of_all() -> None:
    examination = run(suite(2), Model(lambda text, times: Answer("yes") if text == "1" else yes(text, times)))
    assert passed(examination) == ["c0", "c1"]
    assert (examination.cost_usd, examination.prompt_tokens, examination.median_seconds) == (None, None, 0.5)


@pytest.mark.parametrize("error", [RuntimeError("engine died"), TimeoutError(), AssertionError(), ZeroDivisionError()])
def test_whatever_an_engine_raises_fails_that_case_alone(error: Exception) -> None:
    def say(text: str, times: int) -> Answer:
        if text == "1":
            raise error
        return yes(text, times)

    examination = run(suite(3), Model(say))
    assert passed(examination) == ["c0", "c2"]
    assert examination.results[1].errors == 1
    assert examination.results[1].reasons[0].startswith(f"error: {type(error).__name__}")


def test_a_case_that_cannot_be_rendered_fails_without_asking() -> None:
    def broken(case: Case) -> list[Message]:
        if case.vars["n"] == 0:
            raise ValueError("/ticket: is required")
        return render(case)

    model = Model(yes)
    examination = run(suite(2, repeat=3, min_pass=1), model, render=broken)
    assert passed(examination) == ["c1"]
    assert model.asked == ["1"] * 3
    assert examination.results[0].reasons == ("error: not rendered: ValueError: /ticket: is required",)


def test_an_error_passes_no_negation() -> None:
    nothing = (Assertion("contains", True, "x"), Assertion("latency", threshold=1000))
    examination = run(suite(2, assertions=nothing), Model(lambda text, times: Answer(error="down", seconds=0.0)))
    assert passed(examination) == []
    assert (examination.answers, examination.cost_usd) == (0, Decimal(0))


def test_a_huge_answer_is_an_error_and_is_not_held() -> None:
    store: dict[str, Answer] = {}
    examination = run(suite(1), Model(lambda text, times: Answer("yes" * 4_000_000)), kept=store)
    assert passed(examination) == []
    assert "100,000 characters" in examination.results[0].reasons[0]
    assert store == {}
    assert examination.failures[0].attempts[0].answer.text == ""


@pytest.mark.parametrize(("min_pass", "is_passed"), [(1, True), (2, True), (3, False)])
def test_so_many_of_the_repetitions_must_pass(min_pass: int, is_passed: bool) -> None:
    model = Model(lambda text, times: Answer("yes" if times else "no"))
    (result,) = run(suite(1, repeat=3, min_pass=min_pass), model).results
    assert result.passed is is_passed
    assert model.asked == ["0"] * 3


WEIGHTED = (RIGHT, Assertion("is-json", weight=3), Assertion("contains", value="zzz", weight=0))


@pytest.mark.parametrize(("threshold", "is_passed"), [(None, False), (0.25, True), (0.26, False), (0.0, True)])
def test_a_threshold_is_of_the_weighted_mean(threshold: float | None, is_passed: bool) -> None:
    (result,) = run(suite(1, assertions=WEIGHTED, threshold=threshold), Model(yes)).results
    assert result.passed is is_passed


def test_what_nobody_could_evaluate_fails_a_case_whatever_its_threshold() -> None:
    asks_nobody = (RIGHT, Assertion("llm-rubric", value="is polite"))
    assert not run(suite(1, assertions=asks_nobody, threshold=0.0), Model(yes)).results[0].passed


def test_a_metric_counts_apart_from_what_decides() -> None:
    assertions = (
        RIGHT,
        Assertion("is-json", weight=0, metric="form"),
        Assertion("latency", threshold=9, metric="speed"),
    )
    (result,) = run(suite(1, assertions=assertions), Model(lambda text, times: Answer("yes", seconds=0.001))).results
    assert result.passed
    assert result.metrics == {"form": False, "speed": True}


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_no_more_are_asked_at_a_time_than_allowed(concurrency: int) -> None:
    model = Model(yes)
    run(suite(20), model, concurrency=concurrency)
    assert model.most_open == min(concurrency, 20)
    assert len(model.asked) == 20


def test_progress_is_told_for_every_case() -> None:
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, one: Examined) -> None:
        told.append((done, total, one.case.id))

    run(suite(5), Model(yes), progress=progress)
    assert [(done, total) for done, total, _ in told] == [(n, 5) for n in range(1, 6)]
    assert {case for _, _, case in told} == {f"c{n}" for n in range(5)}


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def test_a_run_that_was_cancelled_asks_only_for_what_is_missing_when_it_is_run_again() -> None:
    store: dict[str, Answer] = {}
    first = Model(yes)

    async def cancelled() -> None:
        running = _current_task()

        def progress(done: int, total: int, one: Examined) -> None:
            if done == 4:
                running.cancel()

        await examine(
            suite(10),
            render,
            first,
            build="b",
            parameters={"temperature": 0},
            kept=store,
            concurrency=2,
            progress=progress,
        )

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert 4 <= len(store) < 10
    assert first.open == 0 or len(first.asked) > len(store)
    second = Model(yes)
    examination = run(suite(10), second, kept=store)
    assert len(passed(examination)) == 10
    assert examination.kept == 10 - len(second.asked)
    assert len(second.asked) <= 6


def test_errors_are_asked_again() -> None:
    store: dict[str, Answer] = {}
    run(suite(3), Model(lambda text, times: Answer(error="busy")), kept=store)
    assert passed(run(suite(3), Model(yes), kept=store)) == ["c0", "c1", "c2"]


def test_each_repetition_is_an_answer_of_its_own() -> None:
    store: dict[str, Answer] = {}
    run(suite(1, repeat=3), Model(yes), kept=store)
    assert len(store) == 3


@pytest.mark.parametrize("change", [{"build": "other"}, {"parameters": {"temperature": 1}}])
def test_kept_answers_are_those_of_one_build_and_its_parameters(change: dict[str, Any]) -> None:
    store: dict[str, Answer] = {}
    asked: list[int] = []

    async def ask(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
        asked.append(1)
        return Answer("yes")

    usual: dict[str, Any] = {"build": "b", "parameters": {"temperature": 0}}
    asyncio.run(examine(suite(1), render, ask, **usual, kept=store))
    asyncio.run(examine(suite(1), render, ask, **{**usual, **change}, kept=store))
    asyncio.run(examine(suite(1), render, ask, **usual, kept=store))
    assert len(asked) == 2


def test_a_store_that_fails_fails_cases_and_not_the_run() -> None:
    class Full(dict[str, Answer]):
        def __setitem__(self, key: str, answer: Answer) -> None:
            raise OSError("disk full")

    store: Kept = Full()
    assert run(suite(2), Model(yes), kept=store).results[0].reasons == ("error: OSError: disk full",)


def test_what_is_held_of_failures_has_limits() -> None:
    calls = tuple(ToolCall("f" * 9_000, "x" * 900) for _ in range(50))
    examination = run(
        suite(MOST_SHOWN + 5),
        Model(lambda text, times: Answer("n" * 9_000, calls)),
        render=lambda case: [
            {"role": "user", "content": [{"type": "text", "text": "q" * 9_000}, {"type": "image_url"}]}
        ],
    )
    assert len(examination.results) == MOST_SHOWN + 5
    assert len(examination.failures) == MOST_SHOWN
    attempt = examination.failures[0].attempts[0]
    for text in (attempt.answer.text, attempt.messages[0]["content"], attempt.answer.tool_calls[0].name):
        assert len(text) < SHOWN_CHARACTERS + 50
    assert len(attempt.answer.tool_calls) == MOST_CALLS
    assert "9,000 characters" in attempt.answer.text


def test_a_receipt_holds_few_reasons() -> None:
    many = tuple(Assertion("contains", value=f"{n}" * 200) for n in range(20))
    (result,) = run(suite(1, assertions=many), Model(yes)).results
    assert len(result.reasons) == MOST_REASONS


ANSWERS = st.sampled_from([Answer("yes"), Answer("no"), Answer('{"a": 1}'), Answer("")])
ASSERTIONS = st.sampled_from(
    [
        RIGHT,
        Assertion("equals", True, "yes"),
        Assertion("contains", value="no", metric="m"),
        Assertion("contains", True, "no", weight=0.5),
        Assertion("is-json", weight=2),
        Assertion("latency", True, threshold=1.0),
        Assertion("llm-rubric", True, "is rude"),
    ]
)


@given(
    st.lists(ASSERTIONS, min_size=1, max_size=3).map(tuple),
    st.lists(st.tuples(ANSWERS, st.booleans()), min_size=1, max_size=4),
    st.none() | st.floats(0, 1),
    st.data(),
)
def test_an_error_never_makes_a_case_or_a_metric_pass(
    assertions: tuple[Assertion, ...],
    answers: list[tuple[Answer, bool]],
    threshold: float | None,
    data: st.DataObject,
) -> None:
    """Whichever of the answers are replaced by errors."""
    least = data.draw(st.integers(1, len(answers)))
    case = Case("a", assertions, {"n": 0}, repeat=len(answers), min_pass=least, threshold=threshold)

    def examined(errors: bool) -> Examined:
        each = iter(answers)

        async def ask(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
            answer, fails = next(each)
            return replace(answer, error="down") if errors and fails else answer

        return asyncio.run(examine_case(case, render, ask, "b", {}))

    without, with_errors = examined(False).result, examined(True).result
    assert with_errors.passed <= without.passed
    for metric, is_passed in with_errors.metrics.items():
        assert is_passed <= without.metrics[metric]
