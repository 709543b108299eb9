"""Exact one-sided bounds on a pass-rate. Pure arithmetic; knows nothing of templates or models.

Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26
(1934): the bound at which the observed count, or a more extreme one, would have exactly the chance 1 - confidence.
Exact for a sample whose size was fixed before looking.
"""

from collections.abc import Callable
from functools import lru_cache
from math import exp, lgamma, log, log1p

BISECTIONS = 60  # halvings of [0, 1]: the error is below 1e-18, under a double's resolution


@lru_cache(maxsize=65_536)
def lower_bound(passed: int, total: int, confidence: float) -> float:
    """The pass-rate that the true one exceeds with *confidence* (0 to 1). 0.0 without outcomes or without a pass."""
    _check(passed, total, confidence)
    if passed == 0:
        return 0.0
    return _root(lambda rate: _at_least(passed, total, rate) - (1 - confidence))


def upper_bound(passed: int, total: int, confidence: float) -> float:
    """The pass-rate that the true one stays below with *confidence*. 1.0 without outcomes or without a failure."""
    return 1.0 - lower_bound(total - passed, total, confidence)


def _check(passed: int, total: int, confidence: float) -> None:
    if not 0 <= passed <= total:
        raise ValueError(f"{passed} of {total} passed: not a count")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return low


def _at_least(passed: int, total: int, rate: float) -> float:
    """P(X >= passed) for X ~ Binomial(total, rate): the sum of the shorter tail, in logarithms."""
    if rate <= 0.0 or rate >= 1.0:
        return float(rate >= 1.0)
    upper = passed > total * rate
    counts = range(passed, total + 1) if upper else range(passed - 1, -1, -1)
    log_rate, log_rest = log(rate), log1p(-rate)
    log_choose = lgamma(total + 1)
    tail = 0.0
    for count in counts:
        term = exp(
            log_choose - lgamma(count + 1) - lgamma(total - count + 1) + count * log_rate + (total - count) * log_rest
        )
        tail += term
        if term <= tail * 1e-17:  # the terms only shrink from here on; equal when both are too small for a double
            break
    return tail if upper else 1.0 - tail
