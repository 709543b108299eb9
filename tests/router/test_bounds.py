"""The bounds are those of Clopper and Pearson, and they cover what they promise to cover."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from router.bounds import lower_bound, upper_bound, wilson_interval

CONFIDENCES = (0.05, 0.5, 0.8, 0.9, 0.95, 0.975, 0.99, 0.999, 1 - 1e-6, 1 - 1e-9)
TOTALS = (1, 2, 3, 7, 20, 30, 73, 100, 999, 10_000)
TOLERANCE = 1e-9  # both sides are good to about 1e-13

totals = st.integers(min_value=1, max_value=300)
confidences = st.floats(min_value=0.01, max_value=0.999)


def _counts(total: int) -> list[int]:
    wanted = {0, 1, 2, total // 10, total // 3, total // 2, total - total // 7, total - 2, total - 1, total}
    return sorted(k for k in wanted if 0 <= k <= total)


@pytest.mark.parametrize("total", TOTALS)
def test_equals_the_quantile_of_the_beta_distribution(total: int) -> None:
    for confidence in CONFIDENCES:
        counts = np.array(_counts(total))
        lower = np.where(counts == 0, 0.0, beta.ppf(1 - confidence, np.maximum(counts, 1), total - counts + 1))
        upper = np.where(counts == total, 1.0, beta.ppf(confidence, counts + 1, np.maximum(total - counts, 1)))

        for k, low, high in zip(counts.tolist(), lower, upper, strict=True):
            assert lower_bound(k, total, confidence) == pytest.approx(low, abs=TOLERANCE)
            assert upper_bound(k, total, confidence) == pytest.approx(high, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        (0, 10, 0.0000, 0.3085),
        (1, 20, 0.0013, 0.2487),
        (5, 10, 0.1871, 0.8129),
        (10, 100, 0.0490, 0.1762),
        (73, 73, 0.9507, 1.0000),
    ],
)
def test_gives_the_published_95_percent_intervals(passed: int, total: int, low: float, high: float) -> None:
    """Two-sided, as tables of exact intervals print them: each side takes half of the error."""
    assert lower_bound(passed, total, 0.975) == pytest.approx(low, abs=5e-5)
    assert upper_bound(passed, total, 0.975) == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_misses_the_true_rate_no_more_often_than_promised(confidence: float) -> None:
    """Summed over all counts of 30, not sampled."""
    total = 30
    for rate in np.linspace(0.002, 0.998, 250).tolist():
        chances = [comb(total, k) * rate**k * (1 - rate) ** (total - k) for k in range(total + 1)]
        over = sum(chance for k, chance in enumerate(chances) if lower_bound(k, total, confidence) > rate)
        under = sum(chance for k, chance in enumerate(chances) if upper_bound(k, total, confidence) < rate)

        assert over <= 1 - confidence + 1e-12
        assert under <= 1 - confidence + 1e-12


@given(data=st.data(), total=totals, confidence=confidences)
def test_one_more_pass_raises_both_bounds(data: st.DataObject, total: int, confidence: float) -> None:
    passed = data.draw(st.integers(min_value=0, max_value=total - 1))

    assert lower_bound(passed, total, confidence) < lower_bound(passed + 1, total, confidence)
    assert upper_bound(passed, total, confidence) < upper_bound(passed + 1, total, confidence)


@given(data=st.data(), total=totals, confidence=confidences)
def test_one_more_failure_lowers_both_bounds(data: st.DataObject, total: int, confidence: float) -> None:
    passed = data.draw(st.integers(min_value=1, max_value=total))

    assert lower_bound(passed, total + 1, confidence) < lower_bound(passed, total, confidence)
    assert upper_bound(passed, total + 1, confidence) < upper_bound(passed, total, confidence)


@given(data=st.data(), total=totals, one=confidences, other=confidences)
def test_more_confidence_never_narrows(data: st.DataObject, total: int, one: float, other: float) -> None:
    passed = data.draw(st.integers(min_value=0, max_value=total))
    less, more = sorted((one, other))

    assert lower_bound(passed, total, more) <= lower_bound(passed, total, less)
    assert upper_bound(passed, total, more) >= upper_bound(passed, total, less)


@given(data=st.data(), total=totals, confidence=st.floats(min_value=0.5, max_value=0.999))
def test_the_observed_rate_lies_between_the_bounds(data: st.DataObject, total: int, confidence: float) -> None:
    passed = data.draw(st.integers(min_value=0, max_value=total))

    assert 0 <= lower_bound(passed, total, confidence) <= passed / total <= upper_bound(passed, total, confidence) <= 1


def test_nothing_seen_bounds_nothing() -> None:
    assert lower_bound(0, 0, 0.95) == 0.0
    assert upper_bound(0, 0, 0.95) == 1.0


@pytest.mark.parametrize(("passed", "total"), [(-1, 3), (4, 3), (0, -1), (-2, -1)])
def test_refuses_what_is_not_a_count(passed: int, total: int) -> None:
    with pytest.raises(ValueError, match="not a count"):
        lower_bound(passed, total, 0.95)
    with pytest.raises(ValueError, match="not a count"):
        upper_bound(passed, total, 0.95)


@pytest.mark.parametrize("confidence", [-0.1, 0.0, 1.0, 95.0, float("nan")])
def test_refuses_what_is_not_a_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        lower_bound(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        upper_bound(1, 2, confidence)


@pytest.mark.parametrize("total", TOTALS)
def test_wilsons_interval_is_that_of_others(total: int) -> None:
    for confidence in (0.5, 0.9, 0.95, 0.999):
        for k in _counts(total):
            other = binomtest(k, total).proportion_ci(confidence, method="wilson")
            assert wilson_interval(k, total, confidence) == pytest.approx((other.low, other.high), abs=TOLERANCE)


def test_wilsons_interval_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0, 0.95) == (0.0, 1.0)
