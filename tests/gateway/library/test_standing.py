"""Where versions may be sent is said anew with every change, and costs what has changed."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from gateway.library.gate import gate_of
from gateway.library.lineup import Lineup
from gateway.library.publishing import publish
from gateway.library.records import Records, Who
from gateway.library.standing import Standing, standing_of
from gateway.library.store import LibraryStore
from prompts.library import Library, Version
from prompts.promptfile import LabelPolicy, Policy
from prompts.template import Template
from router.gate import Gate
from tests.gateway.library.world import CASES, LINEUP, NOW, SUITE, prove, rebuilt, receipt, template

PROMPTS = ("a", "b")
TEXTS = ("one", "two", "three")
HOURS = st.integers(0, 3).map(lambda hours: NOW + timedelta(hours=hours))
POLICIES = (Policy(), Policy(labels={"live": LabelPolicy(gated=True)}))
LINEUPS = (LINEUP, rebuilt(LINEUP, ["small"]))


@st.composite
def some_records(draw: st.DrawFn) -> Records:
    versions, labels, receipts, overrides = {}, {}, {}, {}
    for prompt in draw(st.sets(st.sampled_from(PROMPTS), min_size=1)):
        said = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3, unique=True))
        out = st.sampled_from((frozenset[str](), frozenset({"small"})))
        versions[prompt] = {n: Version(template(text, prompt), n, draw(out)) for n, text in enumerate(said, start=1)}
        names, numbers = st.sampled_from(("production", "live")), st.sampled_from(sorted(versions[prompt]))
        labels[prompt] = draw(st.dictionaries(names, numbers))
        overrides[prompt] = {label: draw(HOURS) for label in labels[prompt] if draw(st.booleans())}
        shown = st.tuples(st.sampled_from(TEXTS), st.sampled_from(("small", "large")), st.sampled_from((CASES, 3)))
        receipts[prompt] = tuple(
            receipt(template(text, prompt), tier, passed=passed, lineup=draw(st.sampled_from(LINEUPS)))
            for text, tier, passed in draw(st.lists(shown, max_size=3, unique=True))
        )
    suites = {prompt: SUITE for prompt in versions if draw(st.booleans())}
    policy = draw(st.sampled_from(POLICIES))
    return Records(Library(versions, labels, policy), draw(st.integers(1, 9)), suites, receipts, overrides)


@given(some_records(), some_records(), st.sampled_from(LINEUPS), st.sampled_from(LINEUPS), HOURS, HOURS)
def test_what_was_known_before_changes_nothing_of_what_is_said(
    earlier: Records, records: Records, one: Lineup, other: Lineup, then: datetime, now: datetime
) -> None:
    before = standing_of(earlier, one, min(then, now))
    again = standing_of(earlier, one, max(then, now), before)
    assert again == standing_of(earlier, one, max(then, now))
    assert standing_of(records, other, max(then, now), again) == standing_of(records, other, max(then, now))


def test_a_change_of_one_prompt_asks_no_gate_of_another(store: LibraryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noted(of: Template, *rest: Any) -> Gate:
        asked.append(of.id)
        return gate_of(of, *rest)

    monkeypatch.setattr("gateway.library.standing.gate_of", noted)
    for number in range(20):
        of = template(prompt=f"p{number}")
        store.save(of, origin="api", author="ann")
        store.add_suite(of.id, SUITE, author="ann")
        prove(store, of, "small")
    first = publish(store, Standing(), lambda: NOW)
    assert len(asked) == 20
    asked.clear()
    store.move_label("p7", "staging", 1, expected=None, by=Who("ann"))
    then = publish(store, first.standing, lambda: NOW)
    assert asked == ["p7"]
    assert then.library.labels == {"p7": {"staging": 1}}


def test_what_is_read_after_a_change_is_as_many_statements_for_few_versions_as_for_many(store: LibraryStore) -> None:
    counted: list[str] = []
    event.listen(store._database, "before_cursor_execute", lambda *call: counted.append(call[2]))

    def statements() -> int:
        counted.clear()
        store.records()
        return len(counted)

    def grown(to: int) -> tuple[int, int]:
        """Read by one that knows everything but the last change, and by one that has just begun."""
        for number in range(to):
            of = template(f"Say {number}.", f"p{number % 7}")
            store.save(of, origin="api", author="ann")
        store.records()
        store.save(template(f"And {to}."), origin="api", author="ann")
        after = statements()
        store._reader = type(store._reader)()
        return after, statements()

    assert grown(10) == grown(100)


def test_another_build_or_bar_is_another_house(store: LibraryStore) -> None:
    of = template()
    store.save(of, origin="api", author="ann")
    store.add_suite(of.id, SUITE, author="ann")
    prove(store, of, "small")
    first = publish(store, Standing(), lambda: NOW)
    [name] = first.standing.tiers
    assert first.standing.tiers[name] == {"small", "large"}
    other = store.serving(replace(LINEUP, models=rebuilt(LINEUP, ["small"]).models))
    assert publish(other, first.standing, lambda: NOW).standing.tiers[name] == {"large"}
