"""The gate opens only where every tier has shown enough, by a receipt of what would be served now."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.receipt import WORDS, Binding, Receipt, Result
from prompts.suite import Bars
from router.bar import Bar, parse_bar
from router.bounds import difference_lower_bound, lower_bound
from router.gate import MOST_NEEDED, Gate, Row, Served, cases_needed, gate, tally

NOW = datetime(2026, 11, 25, tzinfo=UTC)
SMALL = Served("small", Binding("template", "suite", "cold", "build-s"))
LARGE = Served("large", Binding("template", "suite", "cold", "build-l"))
TIERS = (SMALL, LARGE)


def receipt(served: Served, passed: int, total: int, hours: int = 0, **change: Any) -> Receipt:
    results = tuple(Result(f"c{n}", n < passed) for n in range(total))
    return replace(Receipt(served.now, served.tier, results, NOW + timedelta(hours=hours), 1.0), **change)


def held(
    receipts: Sequence[Receipt], bars: Bars, served: Sequence[Served] = TIERS, excluded: Sequence[str] = ()
) -> Gate:
    return gate(served, receipts, bars, safe_tier="large", confidence=0.95, excluded=excluded)


def only(rows: Sequence[Row]) -> Row:
    (row,) = rows
    return row


def test_it_opens_where_every_tier_has_proved_its_bar() -> None:
    opened = held([receipt(SMALL, 59, 59), receipt(LARGE, 20, 20)], Bars("0.95", {"large": "0.8"}))
    assert opened.opens
    assert [(row.tier, row.metric, row.passed, row.total, row.bar) for row in opened.rows] == [
        ("small", "all", 59, 59, "0.95"),
        ("large", "all", 20, 20, "0.8"),
    ]
    assert opened.rows[0].bound == lower_bound(59, 59, 0.95)


def test_a_suite_that_is_too_small_is_told_what_it_could_prove() -> None:
    row = only(held([receipt(SMALL, 20, 20)], Bars("0.95"), [SMALL]).failing)
    assert row.why == (
        "passed 20/20: pass-rate between 0.86 and 1.00, bar 0.95; so few cases cannot prove it, "
        "59 without a failure can"
    )


def test_a_suite_that_is_large_enough_and_fails_is_told_its_bound() -> None:
    row = only(held([receipt(SMALL, 50, 100)], Bars("0.95"), [SMALL]).failing)
    assert row.why == "passed 50/100: pass-rate at most 0.59, bar 0.95"
    assert row.bound == lower_bound(50, 100, 0.95)


def test_a_margin_is_held_against_the_safe_tier_on_the_same_cases() -> None:
    opened = held([receipt(SMALL, 44, 50), receipt(LARGE, 44, 50)], Bars("safe-0.1"))
    assert opened.opens
    assert opened.rows[0].bound == difference_lower_bound(0, 0, 50, 0.95)
    shut = held([receipt(SMALL, 40, 50), receipt(LARGE, 44, 50)], Bars("safe-0.1"))
    assert only(shut.failing).why.startswith(
        "passed 40/50, lost 4 and won 0 of 50 to the safe tier: difference between"
    )


def test_a_margin_is_nothing_without_the_safe_tiers_receipt() -> None:
    bars = Bars("safe-0.1")
    assert only(held([receipt(SMALL, 50, 50)], bars, excluded=["large"]).failing).why.endswith("to compare with")
    other = receipt(LARGE, 50, 50, results=tuple(Result(f"d{n}", True) for n in range(50)))
    assert not held([receipt(SMALL, 50, 50), other], bars).opens
    assert held([receipt(SMALL, 50, 50), receipt(LARGE, 50, 50)], bars, excluded=["large"]).opens


def test_a_safe_tier_that_passes_nothing_proves_nothing() -> None:
    shut = held([receipt(SMALL, 0, 50), receipt(LARGE, 0, 50)], Bars("safe-0.1"))
    assert [row.tier for row in shut.failing] == ["large"]


def test_a_bar_of_one_asks_for_every_case() -> None:
    bars = Bars("0.5", tags={"safety": "1"}, metrics={"form": "1"})

    def with_tags(*passes: bool) -> Receipt:
        few = tuple(Result(f"s{n}", one, ("safety",), {"form": True}) for n, one in enumerate(passes))
        return receipt(SMALL, 0, 0, results=few + tuple(Result(f"c{n}", True) for n in range(40)))

    assert held([with_tags(True, True)], bars, [SMALL]).opens
    row = only(held([with_tags(True, False)], bars, [SMALL]).failing)
    assert (row.metric, row.passed, row.total, row.why) == ("tag safety", 1, 2, "passed 1/2; every case must")
    assert [row.why for row in held([receipt(SMALL, 9, 9)], bars, [SMALL]).failing] == ["no case counts for it"] * 2


@pytest.mark.parametrize("part", list(WORDS))
def test_a_stale_receipt_is_none_and_what_changed_is_named(part: str) -> None:
    old = receipt(SMALL, 59, 59)
    now = replace(SMALL, now=replace(SMALL.now, **{part: "new"}))
    row = only(held([old], Bars("0.9"), [now]).failing)
    assert row.why == f"no valid receipt: {WORDS[part]} changed since {old.id}; run the suite again"


def test_a_receipt_of_another_tier_is_none() -> None:
    row = only(held([receipt(LARGE, 59, 59)], Bars("0.9"), [SMALL]).failing)
    assert row.why == "no receipt: the suite was not run on this tier"
    same_build = replace(LARGE, now=SMALL.now)
    assert not held([receipt(same_build, 59, 59)], Bars("0.9"), [SMALL]).opens


def test_without_a_bar_or_a_tier_it_stays_shut() -> None:
    assert "no bar is set" in only(held([receipt(SMALL, 99, 99)], Bars(), [SMALL]).failing).why
    assert "no bar is set" in held([receipt(SMALL, 99, 99)], Bars(tiers={"large": "0.5"}), [SMALL]).failing[0].why
    assert not held([], Bars("0.9"), []).opens
    assert not held([receipt(SMALL, 99, 99)], Bars("0.9"), [SMALL], excluded=["small"]).opens


def test_an_excluded_tier_is_not_asked() -> None:
    opened = held([receipt(LARGE, 59, 59)], Bars("0.95"), excluded=["small"])
    assert opened.opens
    assert [row.tier for row in opened.rows] == ["large"]


def test_two_builds_of_a_tier_must_both_hold() -> None:
    other = Served("small", replace(SMALL.now, build="build-2"))
    bars = Bars("0.9")
    assert not held([receipt(SMALL, 59, 59)], bars, [SMALL, other]).opens
    assert held([receipt(SMALL, 59, 59), receipt(other, 59, 59)], bars, [SMALL, other]).opens


def test_the_latest_of_several_runs_counts_and_their_number_is_told() -> None:
    bars = Bars("0.9")
    good, bad = receipt(SMALL, 59, 59), receipt(SMALL, 10, 59, hours=1)
    row = only(held([bad, good], bars, [SMALL]).failing)
    assert row.why.endswith("; the latest of 2 runs")
    assert row.receipt == bad.id
    assert held([good, receipt(SMALL, 10, 59, hours=-1)], bars, [SMALL]).opens
    assert not held([good, receipt(SMALL, 10, 59)], bars, [SMALL]).opens, "of two at one time the worse counts"


def test_errors_are_told() -> None:
    failed = tuple(Result(f"c{n}", False, errors=2) for n in range(59))
    assert "118 errors" in only(held([receipt(SMALL, 0, 0, results=failed)], Bars("0.9"), [SMALL]).failing).why


@pytest.mark.parametrize(
    ("written", "needed"), [("0.5", 5), ("0.9", 29), ("0.95", 59), ("0.99", 299), ("safe-0.2", 20), ("safe-0.1", 43)]
)
def test_how_many_cases_a_bar_needs(written: str, needed: int) -> None:
    bar = parse_bar(written, 0.95)
    assert cases_needed(bar) == needed


def test_a_bar_that_no_suite_reaches_needs_as_many_as_there_may_be() -> None:
    assert cases_needed(Bar(0.95, pass_rate=0.99999)) == MOST_NEEDED


def test_a_tally_pairs_cases_of_one_suite_only() -> None:
    one, other = receipt(SMALL, 3, 5), receipt(LARGE, 4, 5)
    paired = tally(one, other)
    assert (paired.passed, paired.total, paired.lost, paired.won, paired.paired) == (3, 5, 1, 0, 5)
    assert tally(one, replace(other, binding=replace(other.binding, suite="other"))).paired == 0
    assert tally(one, None).paired == 0


OF_TIERS = st.sampled_from(
    [
        *[(served.now, served.tier) for served in TIERS] * 3,
        (SMALL.now, "large"),
        (LARGE.now, "small"),
        (replace(SMALL.now, template="old"), "small"),
        (replace(LARGE.now, build="new"), "large"),
    ]
)
SHOWN = st.lists(st.booleans(), min_size=20, max_size=80) | st.integers(30, 80).map(lambda total: [True] * total)


@st.composite
def some_receipts(draw: st.DrawFn) -> list[Receipt]:
    made = []
    for _ in range(draw(st.integers(0, 6))):
        binding, tier = draw(OF_TIERS)
        results = tuple(Result(f"c{n}", one, ("t",) if n % 2 else ()) for n, one in enumerate(draw(SHOWN)))
        made.append(Receipt(binding, tier, results, NOW + timedelta(hours=draw(st.integers(0, 3))), 1.0))
    return made


BARS = st.builds(
    Bars,
    st.sampled_from([None, "0.5", "0.9", "1", "safe-0.2"]),
    st.sampled_from([{}, {"small": "0.8"}, {"large": "0.9"}]),
    st.sampled_from([{}, {"t": "1"}, {"t": "safe-0.3"}]),
)


@settings(max_examples=300)  # one in fifteen opens
@given(
    some_receipts(), BARS, st.sets(st.sampled_from(["small", "large"]), max_size=1), st.randoms(use_true_random=False)
)
def test_it_never_opens_with_a_missing_stale_or_failing_tier(
    receipts: list[Receipt], bars: Bars, excluded: set[str], by: random.Random
) -> None:
    """Whatever receipts there are, in whatever order: said again here by hand, tier by tier."""
    decided = held(receipts, bars, excluded=sorted(excluded))
    again = list(receipts)
    by.shuffle(again)
    assert held(again, bars, excluded=sorted(excluded)) == decided
    if not decided.opens:
        return
    latest: dict[str, Receipt] = {}
    for served in TIERS:
        valid = [one for one in receipts if one.tier == served.tier and one.binding == served.now]
        if valid:
            last = max(one.made_at for one in valid)
            latest[served.tier] = min((one for one in valid if one.made_at == last), key=lambda one: one.count.passed)
    for served in TIERS:
        if served.tier in excluded:
            continue
        assert served.tier in latest
        for tag, bar in ((None, bars.of_tier(served.tier)), *bars.tags.items()):
            results = [one for one in latest[served.tier].results if tag is None or tag in one.tags]
            passed = sum(one.passed for one in results)
            assert bar is not None
            assert passed > 0
            if bar == "1":
                assert passed == len(results)
            elif not bar.startswith("safe"):
                assert lower_bound(passed, len(results), 0.95) >= float(bar)
            elif served.tier != "large":
                safe = {one.case: one.passed for one in latest["large"].results}
                lost = sum(safe[one.case] and not one.passed for one in results)
                won = sum(one.passed and not safe[one.case] for one in results)
                margin = float(bar.removeprefix("safe-"))
                assert difference_lower_bound(lost, won, len(results), 0.95) >= -margin


@given(some_receipts(), BARS, st.data())
def test_one_more_failure_never_opens_it(receipts: list[Receipt], bars: Bars, data: st.DataObject) -> None:
    """Of a tier that is no standard for another; where the safe tier fails more, the others lose less to it."""
    if not receipts or held(receipts, bars, [SMALL]).opens:
        return
    place = data.draw(st.integers(0, len(receipts) - 1))
    one = receipts[place]
    case = data.draw(st.integers(0, len(one.results) - 1))
    worse = tuple(replace(r, passed=r.passed and n != case) for n, r in enumerate(one.results))
    assert not held([*receipts[:place], replace(one, results=worse), *receipts[place + 1 :]], bars, [SMALL]).opens


def fitted_on(served: Served, *cases: int) -> Served:
    return replace(served, fitted=frozenset(f"c{n}" for n in cases))


def test_only_cases_that_the_text_was_not_made_from_count() -> None:
    of = fitted_on(SMALL, *range(80))
    row = only(held([receipt(SMALL, 90, 100)], Bars("0.7"), [of]).rows)
    assert (row.passed, row.total, row.fitted, row.holds) == (10, 20, 80, False)
    assert "20 of 100 cases count, a text or a model was made from the others" in row.why
    assert held([receipt(SMALL, 90, 100)], Bars("0.7"), [SMALL]).opens
    everything = only(held([receipt(SMALL, 100, 100)], Bars("0.1"), [fitted_on(SMALL, *range(100))]).rows)
    assert (everything.total, everything.holds) == (0, False)


def test_a_bar_of_every_case_means_those_too_but_is_not_held_by_them_alone() -> None:
    failing_fitted = replace(
        receipt(SMALL, 10, 10), results=tuple(Result(f"c{n}", n != 0, ("safety",)) for n in range(10))
    )
    bars = Bars("0.1", tags={"safety": "1"})
    row = held([failing_fitted], bars, [fitted_on(SMALL, 0)]).rows[1]
    assert (row.passed, row.total, row.holds) == (9, 9, False)
    assert "and 1 of those that it was made from do not" in row.why
    assert not held([receipt(SMALL, 10, 10)], Bars("1"), [fitted_on(SMALL, *range(10))]).opens


def test_a_margin_compares_only_where_neither_text_had_the_case() -> None:
    """The safe tier's text was made from ten cases, on which it is better than it would be on others."""
    small, large = receipt(SMALL, 60, 60), receipt(LARGE, 60, 60)
    row = held([small, large], Bars("safe-0.2"), [fitted_on(SMALL, 0, 1), fitted_on(LARGE, *range(10))]).rows[0]
    assert (row.tier, row.total, row.fitted, row.holds) == ("small", 50, 10, True)


@settings(max_examples=300)
@given(
    some_receipts(),
    BARS,
    st.sets(st.integers(0, 60)),
    st.sets(st.sampled_from(["small", "large"]), max_size=1),
)
def test_counting_fitted_cases_can_never_open_a_gate(
    receipts: list[Receipt], bars: Bars, cases: set[int], excluded: set[str]
) -> None:
    """Let every one of them pass, or let there be none: what opens with them opens without."""
    served = [fitted_on(one, *cases) for one in TIERS]
    out = served[0].fitted

    def passing(one: Receipt) -> Receipt:
        return replace(one, results=tuple(replace(r, passed=r.passed or r.case in out) for r in one.results))

    def without(one: Receipt) -> Receipt:
        return replace(one, results=tuple(r for r in one.results if r.case not in out))

    plain = held(list(map(without, receipts)), bars, excluded=sorted(excluded)).opens
    assert plain or not held(receipts, bars, served, sorted(excluded)).opens
    assert plain == held(list(map(passing, receipts)), bars, served, sorted(excluded)).opens
