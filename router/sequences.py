"""Bounds on a mean that hold at every moment at once, however often one looks and whenever one stops. Pure arithmetic.

Outcomes are 0, a half or 1. Somebody bets on each against "the mean is at most m", staking a share of what he has so
that he cannot go broke: an outcome x multiplies his wealth by 1 + share (x / m - 1). While that is true his wealth is a
supermartingale, so by Ville's inequality the chance that it ever reaches 1 / error is at most `error`. He starts with
equal parts on each of STAKES, which is a bet too. Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting", JRSS-B 86 (2024), arXiv 2010.09686: section 4.1 for the wealth, 4.4 for fixed stakes mixed.

What is promised is more than for independent outcomes: whatever has happened so far, the next outcome may have any
mean that is at most m (an adversary may choose it). What is not: a bound on the average of means on both sides of m.

The wealth of fixed stakes depends on the counts alone. So a stream of any length is three numbers, streams of one
hypothesis are added, and the order of their outcomes does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log

# The best stake against m for a true mean p of outcomes 0 and 1 is (p - m) / (1 - m). From a fiftieth of the way to
# nearly all of it, each 1.5 times the last: between two of them a twentieth of the growth is lost.
STAKES = (0.02, 0.03, 0.045, 0.07, 0.1, 0.15, 0.23, 0.34, 0.5, 0.7, 0.86, 0.97)
BISECTIONS = 20  # of [0, 1]: a bound is at most 1e-6 too wide


@dataclass(frozen=True, slots=True)
class Counts:
    """How many outcomes were 0, a half and 1: of answers the wrong and the right ones, and none between; of pairs with
    the safe tier those that were lost, those that were alike and those that were won.
    """

    zeros: int = 0
    halves: int = 0
    ones: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.zeros + other.zeros, self.halves + other.halves, self.ones + other.ones)

    @property
    def flipped(self) -> "Counts":
        return Counts(self.ones, self.halves, self.zeros)


# Counts, each with the weight of its outcomes: with 0.5 only half of each stake is laid on them, which keeps the bet
# fair; with 0 they are not looked at.
Weighed = Sequence[tuple[Counts, float]]


def log_wealth_above(weighed: Weighed, mean: float) -> float:
    """Natural logarithm of the wealth won against "the mean is at most *mean*" (above 0, under 1)."""
    columns = [_logs(mean, weight) for _, weight in weighed]
    return _mixed(
        [
            sum(c.zeros * zero + c.halves * half + c.ones * one for (c, _), (zero, half, one) in zip(weighed, row))  # noqa: B905  # as many, by construction
            for row in zip(*columns)  # noqa: B905
        ]
    )


def log_wealth_below(weighed: Weighed, mean: float) -> float:
    """Natural logarithm of the wealth won against "the mean is at least *mean*" (above 0, under 1)."""
    return log_wealth_above([(counts.flipped, weight) for counts, weight in weighed], 1 - mean)


def lower(weighed: Weighed, error: float) -> float:
    """What the mean exceeds at every moment, but for a chance of at most *error*. 0 to 1."""
    return _lower(tuple(weighed), error)


def upper(weighed: Weighed, error: float) -> float:
    """What the mean stays below at every moment, but for a chance of at most *error*. 0 to 1."""
    return 1 - _lower(tuple((counts.flipped, weight) for counts, weight in weighed), error)


@lru_cache(maxsize=4096)
def _lower(weighed: tuple[tuple[Counts, float], ...], error: float) -> float:
    """Every factor falls as m rises, so the means that are not refuted are those from one point on."""
    wanted, low, high = log(1 / error), 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        logs = [
            sum(
                counts.zeros * log(1 - stake * weight)
                + counts.halves * log(1 + stake * weight * (0.5 / middle - 1))
                + counts.ones * log(1 + stake * weight * (1 / middle - 1))
                for counts, weight in weighed
            )
            for stake in STAKES
        ]
        if _mixed(logs) >= wanted:
            low = middle
        else:
            high = middle
    return low


@lru_cache(maxsize=256)
def _logs(mean: float, weight: float) -> tuple[tuple[float, float, float], ...]:
    """For each stake what an outcome of 0, a half and 1 adds to the logarithm of the wealth."""
    assert 0 < mean < 1, mean
    assert 0 <= weight <= 1, weight
    return tuple(
        (
            log(1 - stake * weight),
            log(1 + stake * weight * (0.5 / mean - 1)),
            log(1 + stake * weight * (1 / mean - 1)),
        )
        for stake in STAKES
    )


def _mixed(logs: Sequence[float]) -> float:
    """The logarithm of the average of what these are logarithms of."""
    if not logs:
        return 0.0
    most = max(logs)
    return most + log(sum(exp(one - most) for one in logs) / len(logs))
