"""A bar is written in one of two ways, and a tally holds it only when its exact bound does."""

import re
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from router.bar import Bar, Tally, Verdict, parse_bar
from router.bounds import difference_lower_bound, difference_upper_bound

CONFIDENCE = 0.95
PASS_RATE = Bar(CONFIDENCE, pass_rate=0.9)
MARGIN = Bar(CONFIDENCE, margin=0.1)
PAIR = 10  # pairs in the exact enumeration


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    """Any that can be counted: pairs are some of the outcomes, losses some of the failures, wins some of the passes."""
    lost, won, both, neither, alone, alone_passed = (draw(st.integers(min_value=0, max_value=60)) for _ in range(6))
    assume(alone_passed <= alone)
    paired = lost + won + both + neither
    return Tally(won + both + alone_passed, paired + alone, lost, won, paired)


@pytest.mark.parametrize(
    ("written", "bar"),
    [
        ("0.9", Bar(CONFIDENCE, pass_rate=0.9)),
        (".5", Bar(CONFIDENCE, pass_rate=0.5)),
        ("0.999", Bar(CONFIDENCE, pass_rate=0.999)),
        (" 0.90\n", Bar(CONFIDENCE, pass_rate=0.9)),
        ("safe-0.1", Bar(CONFIDENCE, margin=0.1)),
        ("safe-.05", Bar(CONFIDENCE, margin=0.05)),
    ],
)
def test_reads_a_pass_rate_or_a_margin(written: str, bar: Bar) -> None:
    assert parse_bar(written, CONFIDENCE) == bar


@pytest.mark.parametrize(
    "written",
    [
        *("", "0", "1", "0.0", "1.0", "90", "90%", "-0.1", "0,9", "1e-1", "0.9.9", "nan", "0.9 0.8", "0.9\n0.8"),
        *("safe", "safe-", "safe-0.0", "safe-1.0", "safe+0.1", "safe 0.1", "SAFE-0.1", "large-0.1"),
        "0.99999999999999999999",  # 1.0 as a double
    ],
)
def test_refuses_any_other_writing_with_an_example(written: str) -> None:
    with pytest.raises(ValueError, match=r"0\.9.*safe-0\.1"):
        parse_bar(written, CONFIDENCE)


@pytest.mark.parametrize("both", [{}, {"pass_rate": 0.9, "margin": 0.1}])
def test_a_bar_is_exactly_one_of_the_two(both: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either"):
        Bar(CONFIDENCE, **both)


@pytest.mark.parametrize(
    ("passed", "total", "verdict"),
    [
        (0, 0, Verdict.UNKNOWN),
        (1, 1, Verdict.UNKNOWN),
        (28, 28, Verdict.UNKNOWN),  # 0.05 ** (1 / 28) = 0.8985
        (29, 29, Verdict.HOLDS),  # 0.05 ** (1 / 29) = 0.9019
        (45, 46, Verdict.HOLDS),
        (44, 45, Verdict.UNKNOWN),
        (90, 100, Verdict.UNKNOWN),
        (85, 100, Verdict.UNKNOWN),  # at most 0.9052
        (84, 100, Verdict.FAILS),  # at most 0.8970
        (0, 1, Verdict.UNKNOWN),  # at most 0.95
        (0, 2, Verdict.FAILS),  # at most 1 - 0.05 ** (1 / 2) = 0.776
    ],
)
def test_a_pass_rate_holds_or_fails_by_its_bound(passed: int, total: int, verdict: Verdict) -> None:
    assert PASS_RATE.judge(Tally(passed, total)).verdict is verdict


@pytest.mark.parametrize(
    ("lost", "won", "paired", "verdict"),
    [
        (0, 0, 0, Verdict.UNKNOWN),
        (0, 0, 42, Verdict.UNKNOWN),  # at least -0.1003
        (0, 0, 43, Verdict.HOLDS),  # at least -0.0981
        (10, 40, 100, Verdict.HOLDS),
        (10, 10, 100, Verdict.HOLDS),  # at least -0.0972
        (11, 11, 100, Verdict.UNKNOWN),  # at least -0.1005
        (18, 0, 100, Verdict.UNKNOWN),  # at most -0.09997
        (19, 0, 100, Verdict.FAILS),  # at most -0.1087
        (40, 10, 100, Verdict.FAILS),
    ],
)
def test_a_margin_holds_or_fails_by_pairs(lost: int, won: int, paired: int, verdict: Verdict) -> None:
    assert MARGIN.judge(Tally(paired - lost, paired, lost, won, paired)).verdict is verdict


def test_outcomes_that_the_safe_tier_has_not_answered_say_nothing_about_a_margin() -> None:
    shown = MARGIN.judge(Tally(passed=1000, total=1000))

    assert (shown.verdict, shown.lower, shown.upper) == (Verdict.UNKNOWN, -1.0, 1.0)


def test_what_is_shown_says_the_counts_the_bound_and_the_bar() -> None:
    holds, fails = PASS_RATE.judge(Tally(73, 73)), PASS_RATE.judge(Tally(5, 10))
    open_ = MARGIN.judge(Tally(8, 10, lost=1, won=2, paired=9))

    assert holds.says == "passed 73/73: pass-rate at least 0.95, bar 0.90"
    assert fails.says == "passed 5/10: pass-rate at most 0.78, bar 0.90"
    assert open_.says.startswith("passed 8/10, lost 1 and won 2 of 9 to the safe tier: difference between -")
    assert open_.says.endswith(", bar -0.10")


@given(tally=tallies(), bar=st.sampled_from([PASS_RATE, MARGIN]))
def test_what_is_said_is_never_more_than_what_was_shown(tally: Tally, bar: Bar) -> None:
    shown = bar.judge(tally)
    said = re.search(r"(at least|at most|between) ([-+.\d]+)(?: and ([-+.\d]+))?, bar", shown.says)
    assert said is not None
    low = None if said[1] == "at most" else float(said[2])
    high = None if said[1] == "at least" else float(said[3] or said[2])

    assert low is None or low <= shown.lower <= low + 0.011
    assert high is None or high - 0.011 <= shown.upper <= high


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_difference_is_missed_no_more_often_than_promised(confidence: float) -> None:
    """Summed over every way in which ten pairs can be won, lost or neither."""
    ways = [(won, lost) for won in range(PAIR + 1) for lost in range(PAIR + 1 - won)]
    number = np.array([comb(PAIR, won) * comb(PAIR - won, lost) for won, lost in ways])
    won, lost = np.array(ways).T
    bounds = np.array([_bounds(Tally(won=w, lost=n, paired=PAIR), confidence) for w, n in ways])
    for p_won in np.linspace(0, 1, 26):
        for p_lost in np.linspace(0, 1 - p_won, 26):
            rest = max(0.0, 1 - p_won - p_lost)
            chances = number * p_won**won * p_lost**lost * rest ** (PAIR - won - lost)
            assert chances.sum() == pytest.approx(1)

            difference = p_won - p_lost
            assert chances[bounds[:, 0] > difference + 1e-12].sum() <= 1 - confidence
            assert chances[bounds[:, 1] < difference - 1e-12].sum() <= 1 - confidence


@given(tally=tallies(), confidence=st.floats(min_value=0.05, max_value=0.999))
def test_a_win_never_lowers_and_a_loss_never_raises_the_difference(tally: Tally, confidence: float) -> None:
    lower, upper = _bounds(tally, confidence)
    won_lower, won_upper = _bounds(tally + Tally(1, 1, won=1, paired=1), confidence)
    lost_lower, lost_upper = _bounds(tally + Tally(0, 1, lost=1, paired=1), confidence)

    assert lost_lower <= lower <= won_lower
    assert lost_upper <= upper <= won_upper


@given(tally=tallies(), bar=st.sampled_from([PASS_RATE, MARGIN]))
def test_the_verdict_is_where_the_bar_lies(tally: Tally, bar: Bar) -> None:
    shown = bar.judge(tally)
    at = bar.pass_rate if bar.margin is None else -bar.margin
    assert at is not None

    assert shown.lower <= shown.upper
    assert (shown.verdict is Verdict.HOLDS) == (at <= shown.lower)
    assert (shown.verdict is Verdict.FAILS) == (shown.upper < at)


@given(one=tallies(), other=tallies())
def test_tallies_add_up_count_by_count(one: Tally, other: Tally) -> None:
    both = one + other

    assert both == other + one
    assert (both.passed, both.total) == (one.passed + other.passed, one.total + other.total)
    assert (both.lost, both.won, both.paired) == (one.lost + other.lost, one.won + other.won, one.paired + other.paired)
    assert one + Tally() == one


def _bounds(tally: Tally, confidence: float) -> tuple[float, float]:
    counts = (tally.lost, tally.won, tally.paired)
    return difference_lower_bound(*counts, confidence), difference_upper_bound(*counts, confidence)
