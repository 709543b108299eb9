"""Notices that outcomes have become worse than they were promised to be, at whatever moment that happened. Pure.

A Shiryaev-Roberts e-detector: after each outcome the wealth is (wealth + 1) times what a bet against "the mean is at
least m" wins on it, as if somebody new had begun to bet at every moment. Shin, Ramdas and Rinaldo, "E-detectors: a
nonparametric framework for sequential change detection", arXiv 2203.03532, section 2; several stakes mixed: section 3.

While every outcome's mean is at least m, whatever came before, the first alarm is expected after no fewer than as many
outcomes as its threshold says. So an alarm costs money at most that often; it never costs quality.
"""

# Of the wealth, laid on "it is worse than m"; the best stake for a true mean p is (m - p) / m. At m = 0.9 these are
# best for 0.87, 0.85, 0.79, 0.68 and 0.45.
STAKES = (0.03, 0.06, 0.12, 0.25, 0.5)

Wealth = tuple[float, ...]  # of each stake
QUIET: Wealth = (0.0,) * len(STAKES)


def after(wealth: Wealth, outcome: float, mean: float, weight: float = 1.0) -> Wealth:
    """*outcome* (0 to 1) has come, of which a mean of at least *mean* was promised; *weight* scales the stakes."""
    assert 0 < mean < 1, mean
    gain = (1 - outcome) / (1 - mean) - 1
    return tuple((one + 1) * (1 + stake * weight * gain) for one, stake in zip(wealth, STAKES, strict=True))


def sounds(wealth: Wealth, outcomes: float) -> bool:
    """Whether it is time for an alarm, of which there shall be one in *outcomes* at most while nothing is wrong."""
    return sum(wealth) >= outcomes * len(STAKES)
