"""One-sided bounds on a pass-rate and on the difference of two. Pure arithmetic; knows nothing of templates or models.

Both come from the exact distribution of the counts, no normal approximation, for a sample whose size was fixed before
looking.

A rate: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26 (1934): the bound at which the observed count, or a more extreme one, has the chance 1 - confidence.

A difference, from pairs: the bound at which the observed net count of wins, or a higher one, has that chance, the
unknown chance to lose a pair being the worst one up to a bound of its own. Berger and Boos, "P values
maximized over a confidence set for the nuisance parameter", Journal of the American Statistical Association 89 (1994).

Wilson's interval is the exception: approximate, and only for tables.
"""

from collections.abc import Callable
from functools import lru_cache
from math import exp, lgamma, log, log1p, sqrt
from statistics import NormalDist

BISECTIONS = 60  # halvings of [0, 1]: the error is below 1e-18, under a double's resolution
DIFFERENCE_BISECTIONS = 24  # halvings of [-1, 1]: the bound is at most 2e-7 too low, and takes milliseconds
NUISANCE_SHARE = 0.1  # of the allowed error goes to the bound on the chance to lose a pair
NUISANCE_POINTS = 16  # up to that bound are tried, its ends among them; the chance is smooth between them
LARGE = 1e200  # sums are scaled down beyond it: far from a double's limit


@lru_cache(maxsize=4_096)  # a megabyte; one that is not there takes a tenth of a millisecond
def lower_bound(passed: int, total: int, confidence: float) -> float:
    """The pass-rate that the true one exceeds with *confidence* (0 to 1). 0.0 without outcomes or without a pass."""
    _check(passed, total, confidence)
    if passed == 0:
        return 0.0
    return _root(lambda rate: _at_least(passed, total, rate) - (1 - confidence))


def upper_bound(passed: int, total: int, confidence: float) -> float:
    """The pass-rate that the true one stays below with *confidence*. 1.0 without outcomes or without a failure."""
    return 1.0 - lower_bound(total - passed, total, confidence)


def wilson_interval(passed: int, total: int, confidence: float) -> tuple[float, float]:
    """Between which the pass-rate lies, for tables: shorter than an exact interval, and its confidence only about what
    it says, so nothing is decided by it. Wilson, "Probable inference, the law of succession, and statistical
    inference", Journal of the American Statistical Association 22 (1927).
    """
    _check(passed, total, confidence)
    if total == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (passed + z2 / 2) / (total + z2)
    half = sqrt(z2 * (passed * (total - passed) / total + z2 / 4)) / (total + z2)
    low = 0.0 if passed == 0 else middle - half
    return low, 1.0 if passed == total else middle + half


@lru_cache(maxsize=65_536)
def difference_lower_bound(lost: int, won: int, pairs: int, confidence: float) -> float:
    """What P(won) - P(lost) exceeds with *confidence*, from *pairs* of which some were lost and some won. -1 to 1.

    A further win never lowers it and a further loss never raises it: the first leaves the largest credible chance to
    lose no larger and the net count no less likely, the second does the opposite.
    """
    _check(lost + won, pairs, confidence)
    error = 1 - confidence
    nuisance_error = NUISANCE_SHARE * error
    most = upper_bound(lost, pairs, 1 - nuisance_error)

    def chance(difference: float) -> float:
        first, last = max(0.0, -difference), min(most, (1 - difference) / 2)
        if first > last:  # so many losses are not credible
            return nuisance_error
        step = (last - first) / (NUISANCE_POINTS - 1)
        worst = max(_net_at_least(won - lost, pairs, difference, first + i * step) for i in range(NUISANCE_POINTS))
        return nuisance_error + worst

    low, high = -1.0, 1.0
    for _ in range(DIFFERENCE_BISECTIONS):
        middle = (low + high) / 2
        if chance(middle) <= error:
            low = middle
        else:
            high = middle
    return low


def difference_upper_bound(lost: int, won: int, pairs: int, confidence: float) -> float:
    """What P(won) - P(lost) stays below with *confidence*."""
    return -difference_lower_bound(won, lost, pairs, confidence)


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


def _net_at_least(net: int, pairs: int, difference: float, lost: float) -> float:
    """P(wins - losses >= net) when a pair is lost with chance *lost* and won with *difference* more."""
    won = max(0.0, lost + difference)
    neither = max(0.0, 1 - lost - won)
    if net > 0:
        return _sum_at_most(won, neither, lost, pairs, pairs - net) if won > 0 else 0.0
    return 1 - _sum_at_most(lost, neither, won, pairs, pairs + net - 1) if lost > 0 else 1.0


def _sum_at_most(zero: float, one: float, two: float, draws: int, limit: int) -> float:
    """P(the sum of *draws* numbers is at most *limit*), each 0, 1 or 2 with these chances; zero > 0, limit <= draws.

    The coefficients c_k of (zero + one x + two x^2)^draws follow from the two before (by the power's derivative):
    k zero c_k = one (draws - k + 1) c_(k-1) + two (2 draws - k + 2) c_(k-2). All terms are positive up to k = draws.
    """
    if limit < 0:
        return 0.0
    last, before, total, log_scale = 1.0, 0.0, 1.0, draws * log(zero)
    for k in range(1, limit + 1):
        last, before = (one * (draws - k + 1) * last + two * (2 * draws - k + 2) * before) / (k * zero), last
        total += last
        if total > LARGE:
            last, before, total, log_scale = last / LARGE, before / LARGE, total / LARGE, log_scale + log(LARGE)
    return min(1.0, exp(log_scale + log(total)))
