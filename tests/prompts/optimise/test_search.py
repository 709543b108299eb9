"""A search improves a text within its means: it never sees a held-out case, stops at the bar and at each budget, and
changes nothing but the draft.
"""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.answer import Answer
from prompts.message import Message
from prompts.optimise.bench import FEWEST_CASES, Bench, Cases, TooFewCases
from prompts.optimise.budget import Budget, Purse
from prompts.optimise.candidate import draft, told
from prompts.optimise.search import SEARCHES, Found, search
from prompts.suite import Split
from prompts.template import BASE, Text
from tests.prompts.optimise.helps import LABELS, TIER, Model, bench, follows_examples, label, number_in, suite, template

KEY = "Look at the number"


def run(made: Bench, *names: str, seed: int = 0) -> Found:
    return asyncio.run(search(made, names or tuple(SEARCHES), seed))


def rewrites(*texts: str) -> Model:
    """A writer that says each of *texts* in turn, the last one for ever."""
    waiting = list(texts)
    return Model(lambda messages: f"```\n{waiting.pop(0) if len(waiting) > 1 else waiting[0]}\n```")


def follows(instruction: str) -> Model:
    def says(messages: Sequence[Message]) -> str:
        is_told = any(instruction in str(m["content"]) for m in messages if m["role"] == "system")
        return label(number_in(messages)) if is_told else LABELS[0]

    return Model(says)


def test_examples_that_help_are_found_and_the_search_ends_at_the_bar() -> None:
    model = Model(follows_examples(8))
    made = bench(model)
    found = run(made, "examples")
    assert found.start is not None
    assert found.best is not None
    assert found.is_better
    assert found.best.passed == len(made.cases.validation)
    assert "the bar is met" in found.ended
    asked = len(model.asked)
    assert asked <= 2 * len(made.cases.validation)  # as it is, and the first set
    assert asked == made.purse.calls


@pytest.mark.parametrize("name", SEARCHES)
def test_no_search_sees_a_held_out_case(name: str) -> None:
    """Neither the model that answers nor the one that writes is shown a word of one."""
    model, writer = Model(lambda messages: "neither"), rewrites("Try harder.", "Try it once more.")
    made = bench(model, writer=writer, budget=Budget(calls=1200))
    run(made, name)
    seen = f"{model.texts}\n{writer.texts}".split()
    held_out = [str(case.vars["text"]).split()[0] for case in suite().only(Split.HELD_OUT).cases]
    assert len(held_out) >= FEWEST_CASES
    assert not set(held_out) & set(seen)
    assert len(model.asked) > len(made.cases.validation)


def test_instructions_that_help_are_found_by_reflection() -> None:
    model, writer = follows(KEY), rewrites(f"{KEY}. Say left or right.")
    found = run(bench(model, writer=writer), "rewrite")
    assert found.best is not None
    assert found.best.candidate[0] == Text("system", f"{KEY}. Say left or right.")
    assert found.best.candidate[1] == template().messages[1]
    assert "the bar is met" in found.ended
    assert "is not 'right'" in writer.texts or 'is not "right"' in writer.texts  # it was told what was wrong


def test_reflection_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    run(bench(follows(KEY), writer=rewrites(f"{KEY}.")), "rewrite")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "told_why"),
    [
        ("Say {{ tone }}.", "tone"),
        ("Say {{ text }}.", "untrusted"),
        ("Say {{ nothing }}.", "nothing"),
        ("{% if %}", "served"),
        ("Long. " * 5000, "characters"),
    ],
)
def test_a_rewriting_that_is_refused_costs_no_call_of_the_tier(text: str, told_why: str) -> None:
    model = Model(lambda messages: LABELS[0])
    made = bench(model, writer=rewrites(text), budget=Budget(calls=300))
    run(made, "rewrite")
    refused = [trial for trial in made.log if trial.problem is not None]
    assert refused
    assert all(told_why in str(trial.problem) for trial in refused)
    assert all(text[:20] not in str(message["content"]) for messages in model.asked for message in messages)


@settings(max_examples=25)
@given(calls=st.integers(1, 400), name=st.sampled_from(sorted(SEARCHES)))
def test_no_more_calls_are_made_than_the_budget_has(calls: int, name: str) -> None:
    model, writer = Model(lambda messages: "neither"), rewrites("Try harder.", "Try it once more.")
    made = bench(model, writer=writer, budget=Budget(calls=calls))
    found = run(made, name)
    assert len(model.asked) + len(writer.asked) <= calls
    assert len(model.asked) + len(writer.asked) == made.purse.calls
    assert found.ended


def test_the_budget_in_money_ends_it() -> None:
    model = Model(lambda messages: "neither", usd=Decimal("0.01"))
    made = bench(model, budget=Budget(calls=10_000, usd=Decimal("0.50")))
    found = run(made)
    assert "$0.50" in found.ended
    assert Decimal("0.50") <= made.purse.usd <= Decimal("0.50") + made.concurrency * Decimal("0.01")


def test_a_budget_in_money_is_no_budget_where_nobody_knows_what_a_call_costs() -> None:
    made = bench(Model(lambda messages: "neither", usd=None), budget=Budget(calls=10_000, usd=Decimal(1)))
    found = run(made)
    assert "without a price" in found.ended
    assert made.purse.calls <= made.concurrency


def test_a_budget_in_seconds_ends_it() -> None:
    ticks = count()
    purse = Purse(Budget(calls=10_000, seconds=5), clock=lambda: float(next(ticks)))
    made = bench(Model(lambda messages: "neither"), purse=purse)
    assert "5 seconds" in run(made).ended
    assert made.purse.calls < 10


def test_a_search_goes_on_where_it_stopped_and_finds_the_same() -> None:
    kept: dict[str, Answer] = {}
    first = bench(Model(follows_examples(16)), kept=kept, budget=Budget(calls=30))
    assert "30 calls" in run(first, "examples").ended
    second = bench(Model(follows_examples(16)), kept=kept)
    whole = bench(Model(follows_examples(16)))
    found, at_once = run(second, "examples"), run(whole, "examples")
    assert found.best is not None
    assert at_once.best is not None
    assert found.best.candidate == at_once.best.candidate
    assert first.purse.calls + second.purse.calls == whole.purse.calls


def test_two_searches_with_one_seed_are_the_same() -> None:
    runs = [bench(Model(lambda messages: "neither"), budget=Budget(calls=500)) for _ in range(2)]
    for one in runs:
        run(one, "examples", seed=7)
    assert [t.candidate for t in runs[0].log] == [t.candidate for t in runs[1].log]


def test_what_comes_out_is_a_draft_and_nothing_else_is_changed() -> None:
    made = bench(Model(follows_examples(8)))
    was = template()
    found = run(made, "examples")
    new = found.draft(was, TIER)
    assert new is not None
    assert made.template == was == template()
    assert new.parts(BASE) == was.parts(BASE)
    assert new.inputs == was.inputs
    assert new.told("large") == was.told("large")
    assert new.told(TIER) != was.told(TIER)
    assert new.parameters_of(TIER) == was.parameters


def test_no_draft_where_nothing_is_better() -> None:
    found = run(bench(Model(lambda messages: label(number_in(messages)))))
    assert found.draft(template(), TIER) is None
    assert "the bar is met" in found.ended


def test_a_tier_that_has_a_text_of_its_own_is_improved_from_that() -> None:
    own = draft(template(), TIER, (Text("system", "Own."), Text("user", "{{ text }}")))
    assert told(own, TIER)[0] == Text("system", "Own.")
    assert draft(own, TIER, told(own, TIER)) == own


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_that_is_cancelled_ends_with_its_thread(name: str) -> None:
    async def cancelled() -> None:
        asked, never = asyncio.Event(), asyncio.Event()

        async def ask(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
            if len(model.asked) > len(made.cases.validation):  # past the text that is there
                asked.set()
                await never.wait()
            return await model(messages, parameters)

        model = Model(lambda messages: "neither")
        made = bench(model, writer=rewrites("Try harder."), ask=ask)
        running = asyncio.create_task(search(made, [name]))
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())  # waits for the thread


def test_nothing_is_rewritten_where_nobody_writes() -> None:
    model = Model(lambda messages: "neither")
    made = bench(model)
    assert run(made, "rewrite").ended == "nothing more to try"
    assert len(model.asked) == len(made.cases.validation)


def test_a_suite_with_too_few_cases_is_not_searched_with() -> None:
    with pytest.raises(TooFewCases, match="write some"):
        Cases.of(suite(12))
