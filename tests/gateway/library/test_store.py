"""Versions never change, labels move by comparing and setting, and a gated one through the gate alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.library.errors import (
    GateShut,
    LabelMoved,
    LabelRefused,
    NotPermitted,
    NumberTaken,
    OverrideRefused,
    ReceiptRefused,
    TemplateRefused,
)
from gateway.library.records import Move, Override, Who
from gateway.library.standing import standing_of
from gateway.library.store import LibraryStore
from prompts.library import PromptNotFound
from prompts.promptfile import LabelPolicy, Policy
from prompts.reference import read_reference
from prompts.suite import Bars, Suite
from prompts.template import Template, Text
from tests.gateway.library.world import LINEUP, NOW, PROMPT, SUITE, prove, rebuilt, receipt, template

ANN = Who("ann")
BOSS = Who("boss", frozenset({"boss"}))
ROLES = Policy(labels={"production": LabelPolicy(gated=True, roles=("boss",))})
A_DAY = NOW + timedelta(days=1)


def save(store: LibraryStore, of: Template) -> int:
    return store.save(of, origin="api", author="ann").number


def move(store: LibraryStore, number: int, expected: int | None, *excluded: str, by: Who = ANN) -> Move:
    return store.move_label(PROMPT, "production", number, expected=expected, by=by, excluded=excluded)


def policy(store: LibraryStore, said: Policy) -> None:
    with store.writing() as connection:
        store.set_policy_in(connection, said)


def tiers(store: LibraryStore, written: str = PROMPT, now: datetime = NOW) -> set[str]:
    records = store.records()
    return {*(standing_of(records, store.lineup, now).of(records.library.find(read_reference(written))) or ())}


def ready(store: LibraryStore) -> Template:
    """One version, with its suite."""
    save(store, template())
    store.add_suite(PROMPT, SUITE, author="ann")
    return template()


def test_the_same_content_is_the_same_version_and_another_gets_the_next_number(store: LibraryStore) -> None:
    numbers = [save(store, template(said)) for said in ("a", "b", "a", "c")]
    assert numbers == [1, 2, 1, 3]
    assert [(one.version.template, one.origin, one.author) for one in store.saved(PROMPT)] == [
        (template(said), "api", "ann") for said in "abc"
    ]


def test_many_who_save_at_once_get_different_numbers_and_none_is_lost(store: LibraryStore) -> None:
    with ThreadPoolExecutor(4) as threads:
        numbers = list(threads.map(lambda said: save(store, template(f"{said}")), [*range(12), *range(12)]))
    assert (sorted(numbers[:12]), numbers[12:]) == (list(range(1, 13)), numbers[:12])
    assert [one.version.number for one in store.saved(PROMPT)] == list(range(1, 13))


def test_a_template_that_is_wrong_is_not_kept(store: LibraryStore) -> None:
    with pytest.raises(TemplateRefused, match="no variable of inputs"):
        save(store, Template(PROMPT, (Text("user", "{{ nobody }}"),)))
    assert store.library().versions == {}


def test_a_number_that_is_taken_is_not_given_to_another_content(store: LibraryStore) -> None:
    store.save(template("a"), origin="file", author="ann", number=7)
    with pytest.raises(NumberTaken, match="@7 has another content in the database"):
        store.save(template("b"), origin="file", author="ann", number=7)
    assert save(store, template("b")) == 8


def test_a_parent_must_be_there(store: LibraryStore) -> None:
    with pytest.raises(PromptNotFound, match="no version 4"):
        store.save(template(), origin="api", author="ann", parent=4)


def test_every_change_raises_the_epoch(store: LibraryStore) -> None:
    seen = [store.epoch()]
    of = ready(store)
    seen.append(store.epoch())
    prove(store, of, "small", "large")
    seen.append(store.epoch())
    move(store, 1, None)
    seen.append(store.epoch())
    assert sorted({*seen}) == seen
    assert store.records().epoch == seen[-1]


# The gate.


def test_production_moves_only_to_what_has_proved_itself_on_every_tier(store: LibraryStore) -> None:
    of = ready(store)
    with pytest.raises(GateShut, match=r"small, all .*no receipt") as shut:
        move(store, 1, None)
    assert {row.tier for row in shut.value.gate.failing} == {"small", "large"}
    prove(store, of, "large")
    with pytest.raises(GateShut) as shut:
        move(store, 1, None)
    assert {row.tier for row in shut.value.gate.failing} == {"small"}
    prove(store, of, "small")
    move(store, 1, None)
    assert store.library().labels == {PROMPT: {"production": 1}}
    assert tiers(store) == {"small", "large"}


def test_without_a_suite_nothing_is_proved(store: LibraryStore) -> None:
    save(store, template())
    with pytest.raises(GateShut, match=r"has no suite: write tests\.yaml"):
        move(store, 1, None)


def test_a_tier_that_fails_can_be_left_out_and_is_not_used(store: LibraryStore) -> None:
    of = ready(store)
    prove(store, of, "large")
    prove(store, of, "small", passed=10)
    with pytest.raises(GateShut, match="passed 10/20"):
        move(store, 1, None)
    move(store, 1, None, "small")
    assert tiers(store) == {"large"}
    prove(store, of, "small", after=timedelta(hours=-1))
    prove(store, of, "small", after=timedelta(minutes=1))
    assert tiers(store) == {"large"}  # what was left out stays out until somebody moves the label
    move(store, 1, 1)
    assert tiers(store) == {"small", "large"}


def test_the_safe_tier_cannot_be_left_out_nor_a_tier_that_there_is_not(store: LibraryStore) -> None:
    prove(store, ready(store), "small", "large")
    with pytest.raises(LabelRefused, match="large is where"):
        move(store, 1, None, "large")
    with pytest.raises(LabelRefused, match="'medium' is no tier"):
        move(store, 1, None, "medium")


def test_a_template_is_asked_only_for_the_tiers_it_may_be_sent_to(store: LibraryStore) -> None:
    of = template(tiers=("small",))
    save(store, of)
    store.add_suite(PROMPT, SUITE, author="ann")
    prove(store, of, "small")
    move(store, 1, None)
    assert tiers(store) == {"small"}


def test_another_build_takes_the_tier_away_until_it_has_shown_itself(store: LibraryStore) -> None:
    of = ready(store)
    prove(store, of, "small", "large")
    move(store, 1, None)
    later = store.serving(rebuilt(LINEUP, ["small"]))
    assert tiers(later) == {"large"}
    assert "model build changed" in "\n".join(map(str, standing_of(later.records(), later.lineup, NOW).alarms))
    with pytest.raises(GateShut):
        move(later, 1, 1)
    prove(later, of, "small")
    assert tiers(later) == {"small", "large"}
    assert standing_of(later.records(), later.lineup, NOW).alarms == ()


def test_another_suite_takes_all_but_the_safe_tier_away(store: LibraryStore) -> None:
    prove(store, ready(store), "small", "large")
    move(store, 1, None)
    store.add_suite(PROMPT, Suite(SUITE.cases[:-1], SUITE.bars), author="ann")
    assert tiers(store) == {"large"}


def test_a_higher_bar_takes_it_away_without_a_new_run_and_a_lower_one_gives_it(store: LibraryStore) -> None:
    prove(store, ready(store), "small", "large")
    move(store, 1, None)
    store.add_suite(PROMPT, replace(SUITE, bars=Bars("0.8", {"small": "0.95"})), author="ann")
    assert tiers(store) == {"large"}
    store.add_suite(PROMPT, SUITE, author="ann")
    assert tiers(store) == {"small", "large"}


@pytest.mark.parametrize(("bars", "opens"), [({"default": 0.8}, True), ({"default": 0.95}, False), ({}, False)])
def test_bars_that_the_suite_does_not_say_are_the_librarys(
    store: LibraryStore, bars: dict[str, float], opens: bool
) -> None:
    save(store, template())
    store.add_suite(PROMPT, Suite(SUITE.cases), author="ann")
    policy(store, Policy(bars=bars))
    for tier in ("small", "large"):
        store.add_receipt(PROMPT, receipt(template(), tier), author="ann")
    assert store.gate(PROMPT, 1).opens is opens


def test_a_receipt_that_leaves_cases_out_or_is_of_no_version_is_refused(store: LibraryStore) -> None:
    of = ready(store)
    whole = receipt(of, "large")
    with pytest.raises(ReceiptRefused, match="counts 3 cases and the suite has 20"):
        store.add_receipt(PROMPT, replace(whole, results=whole.results[:3]), author="ann")
    with pytest.raises(ReceiptRefused, match="never said to large"):
        store.add_receipt(PROMPT, receipt(template("other"), "large"), author="ann")
    with pytest.raises(ReceiptRefused, match="future"):
        store.add_receipt(PROMPT, receipt(of, "large", made_at=A_DAY), author="ann")


def test_a_short_receipt_that_came_before_its_suite_proves_nothing(store: LibraryStore) -> None:
    save(store, template())
    for tier in ("small", "large"):
        whole = receipt(template(), tier)
        store.add_receipt(PROMPT, replace(whole, results=whole.results[:15]), author="ann")
    store.add_suite(PROMPT, replace(SUITE, bars=Bars("0.1")), author="ann")
    with pytest.raises(GateShut):
        move(store, 1, None)


def test_a_label_without_a_gate_moves_freely_and_lends_no_tier(store: LibraryStore) -> None:
    save(store, template())
    store.move_label(PROMPT, "staging", 1, expected=None, by=ANN)
    assert tiers(store, f"{PROMPT}@staging") == {"large"}


# Moving.


def test_who_saw_another_place_is_told_and_changes_nothing(store: LibraryStore) -> None:
    prove(store, ready(store), "small", "large")
    with pytest.raises(LabelMoved, match="is not there, not version 1"):
        move(store, 1, 1)
    move(store, 1, None)
    with pytest.raises(LabelMoved, match="is at version 1") as moved:
        move(store, 1, None)
    assert moved.value.current == 1
    assert len(store.history(PROMPT, "production")) == 1


def test_of_many_who_move_a_label_from_one_place_one_does(store: LibraryStore) -> None:
    for said in range(8):
        save(store, template(f"{said}"))
    store.move_label(PROMPT, "staging", 1, expected=None, by=ANN)

    def tried(number: int) -> bool:
        try:
            store.move_label(PROMPT, "staging", number, expected=1, by=ANN)
        except LabelMoved:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(tried, range(2, 9)))
    assert sum(done) == 1
    assert store.library().labels[PROMPT]["staging"] == 2 + done.index(True)
    assert len(store.history(PROMPT)) == 2


@pytest.mark.parametrize("label", ["latest", "7", "Production", "", "a" * 37])
def test_what_is_no_label_is_refused(store: LibraryStore, label: str) -> None:
    save(store, template())
    with pytest.raises(LabelRefused):
        store.move_label(PROMPT, label, 1, expected=None, by=ANN)


def test_rollback_goes_to_what_the_label_held_through_the_same_gate(store: LibraryStore) -> None:
    one, two = ready(store), template("Say yes, please.")
    save(store, two)
    prove(store, one, "large")
    prove(store, two, "small", "large")
    move(store, 1, None, "small")
    move(store, 2, 1)
    assert tiers(store) == {"small", "large"}
    back = store.rollback(PROMPT, "production", expected=2, by=ANN)
    assert (back.went_to, {*back.excluded}, tiers(store)) == (1, {"small"}, {"large"})
    with pytest.raises(LabelRefused, match="never been at version 9"):
        store.rollback(PROMPT, "production", expected=1, by=ANN, number=9)
    stale = store.serving(rebuilt(LINEUP, ["large"]))
    with pytest.raises(GateShut):
        stale.rollback(PROMPT, "production", expected=1, by=ANN)


def test_a_policy_says_whose_a_label_is(store: LibraryStore) -> None:
    prove(store, ready(store), "small", "large")
    policy(store, ROLES)
    with pytest.raises(NotPermitted, match="moved by boss, and ann is none"):
        move(store, 1, None)
    assert move(store, 1, None, by=BOSS).override is None


# Overrides.


def override(store: LibraryStore, by: Who = BOSS, **changed: Any) -> Move:
    said = replace(Override("boss", "the old one leaks", A_DAY), **changed)
    return store.move_label(PROMPT, "production", 1, expected=None, by=by, override=said)


def test_an_override_serves_until_it_runs_out_then_the_safe_tier_alone_and_says_so(store: LibraryStore) -> None:
    ready(store)
    policy(store, ROLES)
    override(store)
    assert tiers(store) == {"small", "large"}
    assert standing_of(store.records(), LINEUP, NOW).until == A_DAY
    assert tiers(store, now=A_DAY) == {"large"}
    ended = standing_of(store.records(), LINEUP, A_DAY)
    assert ended.until is None
    assert "ran out at 2026-01-02 12:00 UTC: it stays there, and is sent to large alone" in str(ended.alarms[0])
    [logged] = store.history(PROMPT)
    assert (logged.by, logged.override) == ("boss", Override("boss", "the old one leaks", A_DAY))
    assert {row["tier"] for row in logged.failing} == {"small", "large"}


@pytest.mark.parametrize(
    "changed", [{"role": "king"}, {"reason": " "}, {"until": NOW}, {"until": A_DAY.replace(tzinfo=None)}]
)
def test_an_override_needs_a_named_role_a_reason_and_an_end(store: LibraryStore, changed: dict[str, Any]) -> None:
    ready(store)
    policy(store, ROLES)
    with pytest.raises(OverrideRefused):
        override(store, **changed)
    with pytest.raises(NotPermitted):
        override(store, by=ANN)
    policy(store, Policy())
    with pytest.raises(OverrideRefused, match="nobody: name a role"):
        override(store)
    assert store.library().labels == {}


def test_where_the_gate_is_open_there_is_nothing_to_override(store: LibraryStore) -> None:
    prove(store, ready(store), "small", "large")
    policy(store, ROLES)
    assert override(store).override is None
    assert standing_of(store.records(), LINEUP, NOW).until is None


@pytest.mark.parametrize("bar", ["0.8", "safe-0.2"])
def test_what_a_labelled_version_serves_by_stays_however_many_others_are_run(
    store: LibraryStore, monkeypatch: pytest.MonkeyPatch, bar: str
) -> None:
    monkeypatch.setattr("gateway.library.store.MOST_RECEIPTS", 2)
    of, others = ready(store), [template(f"Say {n}.") for n in range(4)]
    store.add_suite(PROMPT, replace(SUITE, bars=Bars(bar)), author="ann")
    for minutes in (-2, -1):
        prove(store, of, "small", "large", after=timedelta(minutes=minutes))
    move(store, 1, None)
    for minute, other in enumerate(others):
        save(store, other)
        prove(store, other, "small", "large", passed=minute, after=timedelta(minutes=minute))
    assert store.gate(PROMPT, 1).opens
    assert tiers(store) == {"small", "large"}
    kept = [(r.tier, r.made_at - NOW) for r in store.receipts(PROMPT, of.told("small"))]
    assert sorted(kept) == [(tier, timedelta(minutes=-1)) for tier in ("large", "small")]
    assert len(store.receipts(PROMPT)) == 2 * (2 + 1)


def test_old_receipts_go_and_the_newest_stay(store: LibraryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.library.store.MOST_RECEIPTS", 2)
    of = ready(store)
    for minute in range(4):
        prove(store, of, "small", after=timedelta(minutes=-minute))
    prove(store, of, "large")
    kept = store.receipts(PROMPT, of.told("small"))
    assert {(r.tier, r.made_at) for r in kept} == {
        ("small", NOW),
        ("small", NOW - timedelta(minutes=1)),
        ("large", NOW),
    }
