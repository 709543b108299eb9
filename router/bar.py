"""The bar: what a cheaper model must have shown before it serves, and whether a tally shows it. Pure arithmetic."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, floor

from router.bounds import difference_lower_bound, difference_upper_bound, lower_bound, upper_bound

WRITTEN = re.compile(r"(?P<safe>safe-)?(?P<value>0?\.\d+)")


class Verdict(StrEnum):
    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"
    SUSPENDED = "suspended"  # it may have held the bar once; since its cause nothing but new outcomes earns trust


class Cause(StrEnum):
    """Why trust ended. What was counted before is not looked at again."""

    RATE_FELL = "pass_rate_fell"
    INPUTS_CHANGED = "inputs_changed"
    SUITE_CHANGED = "suite_changed"
    RESET = "reset"  # by the owner


@dataclass(frozen=True, slots=True)
class Tally:
    """`passed` of `total` outcomes were right. Of these, `paired` prompts were answered by the safe tier too: on `lost`
    of them it alone was right, on `won` the model alone.
    """

    passed: int = 0
    total: int = 0
    lost: int = 0
    won: int = 0
    paired: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.passed + other.passed,
            self.total + other.total,
            self.lost + other.lost,
            self.won + other.won,
            self.paired + other.paired,
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """What outcomes show: the quantity lies between `lower` and `upper`, each with the bar's confidence. `cause` says
    since what nothing but new outcomes counts.
    """

    verdict: Verdict
    lower: float
    upper: float
    says: str
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """`pass_rate`: at least this share of answers is right. `margin`: the pass-rate is at most this far under the safe
    tier's on the same prompts. Exactly one is set; both 0 to 1. `confidence` is that of each one-sided bound.
    """

    confidence: float
    pass_rate: float | None = None
    margin: float | None = None

    def __post_init__(self) -> None:
        if (self.pass_rate is None) == (self.margin is None):
            raise ValueError("a bar has either a pass_rate or a margin")

    def judge(self, tally: Tally) -> Shown:
        """By the counts of a sample whose size was fixed before looking."""
        if self.pass_rate is not None:
            lower = lower_bound(tally.passed, tally.total, self.confidence)
            upper = upper_bound(tally.passed, tally.total, self.confidence)
        else:
            lower = difference_lower_bound(tally.lost, tally.won, tally.paired, self.confidence)
            upper = difference_upper_bound(tally.lost, tally.won, tally.paired, self.confidence)
        return self.shown(tally, lower, upper)

    def shown(self, tally: Tally, lower: float, upper: float, lead: str = "") -> Shown:
        """What *tally* shows by these bounds, in words that begin with *lead*."""
        counts = f"{lead}passed {tally.passed}/{tally.total}"
        if self.pass_rate is not None:
            return _shown(counts, "pass-rate", lower, upper, self.pass_rate, "{:.2f}")
        assert self.margin is not None
        counts = f"{counts}, lost {tally.lost} and won {tally.won} of {tally.paired} to the safe tier"
        return _shown(counts, "difference", lower, upper, -self.margin, "{:+.2f}")

    def asks_no_more_than(self, other: "Bar") -> bool:
        """Whether what holds *other* holds this one; both are of one kind."""
        if self.pass_rate is not None and other.pass_rate is not None:
            return self.pass_rate <= other.pass_rate
        assert self.margin is not None
        assert other.margin is not None
        return self.margin >= other.margin

    def rejudged(self, shown: Shown) -> Shown:
        """What was *shown* against another bar of the same kind, held against this one."""
        if shown.verdict is Verdict.SUSPENDED:
            return shown
        at = self.pass_rate if self.pass_rate is not None else -(self.margin or 0.0)
        open_or_not = Verdict.FAILS if shown.upper < at else Verdict.UNKNOWN
        verdict = Verdict.HOLDS if shown.lower >= at else open_or_not
        return replace(shown, verdict=verdict, says=f"{shown.says}; held against {self}")

    def __str__(self) -> str:
        return f"{self.pass_rate:g}" if self.pass_rate is not None else f"safe-{self.margin:g}"


def parse_bar(written: str, confidence: float) -> Bar:
    """`0.9` is a pass-rate, `safe-0.1` a margin under the safe tier. Raises ValueError."""
    match = WRITTEN.fullmatch(written.strip())
    if match is None or not 0 < float(match["value"]) < 1:
        raise ValueError("a bar is a pass-rate such as 0.9, or a margin under the safe tier such as safe-0.1")
    value = float(match["value"])
    return Bar(confidence, margin=value) if match["safe"] else Bar(confidence, pass_rate=value)


def _shown(counts: str, quantity: str, lower: float, upper: float, bar: float, number: str) -> Shown:
    # Rounded outwards: what is said is never more than what was shown.
    low, high, at = number.format(floor(lower * 100) / 100), number.format(ceil(upper * 100) / 100), number.format(bar)
    if lower >= bar:
        return Shown(Verdict.HOLDS, lower, upper, f"{counts}: {quantity} at least {low}, bar {at}")
    if upper < bar:
        return Shown(Verdict.FAILS, lower, upper, f"{counts}: {quantity} at most {high}, bar {at}")
    return Shown(Verdict.UNKNOWN, lower, upper, f"{counts}: {quantity} between {low} and {high}, bar {at}")
