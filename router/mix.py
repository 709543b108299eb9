"""Notices that a template's inputs are no longer those it was measured on, by their lengths. Bounded memory; pure.

The lengths of `WINDOW` requests at a time are compared with those of the first `REFERENCE` by the largest distance of
their distribution functions (Kolmogorov-Smirnov). Of each the true one lies within sqrt(ln(2 / error) / 2n), with the
constant of Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18 (1990).
So while the true distance is at most TOLERATED there is an alarm with a chance of at most ERROR, in all windows
together, for requests that are drawn independently. Inputs of other lengths only are noticed; those of other content
and the same lengths are not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from math import log, log2, sqrt

REFERENCE = 1_000  # requests
WINDOW = 500
BINS = 40  # half octaves: up to 2^20 tokens
TOLERATED = 0.2  # days differ from nights, and tests of exact equality would find that
ERROR = 0.001

Histogram = tuple[int, ...]
EMPTY: Histogram = (0,) * BINS


@dataclass(frozen=True, slots=True)
class Mix:
    """`windows`: how many have been compared with the reference."""

    reference: Histogram = EMPTY
    window: Histogram = EMPTY
    windows: int = 0


def after(mix: Mix, prompt_tokens: Iterable[int]) -> tuple[Mix, bool]:
    """Requests of these lengths have come; whether their mix has changed, after which to start with a new one."""
    reference, window, windows = list(mix.reference), list(mix.window), mix.windows
    wanted, waiting = REFERENCE - sum(reference), sum(window)
    for tokens in prompt_tokens:
        if wanted > 0:
            reference[_bin(tokens)] += 1
            wanted -= 1
            continue
        window[_bin(tokens)] += 1
        waiting += 1
        if waiting == WINDOW:
            windows += 1
            if _distance(reference, window) > TOLERATED + _slack(windows):
                return Mix(), True
            window, waiting = list(EMPTY), 0
    return Mix(tuple(reference), tuple(window), windows), False


def _bin(tokens: int) -> int:
    return min(BINS - 1, int(2 * log2(max(1, tokens))))


def _distance(one: Iterable[int], other: Iterable[int]) -> float:
    ones, others = list(accumulate(one)), list(accumulate(other))
    return max(abs(a / ones[-1] - b / others[-1]) for a, b in zip(ones, others, strict=True))


def _slack(windows: int) -> float:
    """How far both may be from the truth: half of the error for the reference, the other spent on all windows."""
    share = ERROR / 2 / (windows * (windows + 1))
    return sqrt(log(4 / ERROR) / (2 * REFERENCE)) + sqrt(log(2 / share) / (2 * WINDOW))
