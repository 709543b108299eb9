"""From which score on the difficulty estimate may be trusted: thresholds with an exact bound, on held-back prompts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.bar import Bar, Tally, Verdict
from router.difficulty import Difficulty
from router.evidence import tally_of
from router.outcomes import Outcome

STEPS = 20  # candidate thresholds: the best 1/20, 2/20, ... of the calibration prompts


@dataclass(frozen=True, slots=True)
class Threshold:
    """On the calibration prompts that score at least `score`, `says` is what was counted; it holds the bar."""

    score: float
    says: str


def thresholds(
    builds: Iterable[str],
    safe_build: str,
    calibration: Sequence[Outcome],
    features: Mapping[str, tuple[float, ...]],
    difficulty: Difficulty,
    bar: Bar,
) -> dict[str, Threshold]:
    """For each of *builds* the lowest threshold that holds the bar; a build without one is left out."""
    safe_was_right = {o.prompt_id: o.correct for o in calibration if o.build == safe_build}
    found = {}
    for build in builds:
        scored = []
        for outcome in calibration:
            if outcome.build != build or outcome.prompt_id not in safe_was_right:
                continue
            score = difficulty.expected_difference(build, safe_build, features[outcome.prompt_id])
            if score is not None:
                scored.append((score, tally_of(outcome.correct, safe_was_right[outcome.prompt_id])))
        threshold = lowest_threshold(scored, bar)
        if threshold is not None:
            found[build] = threshold
    return found


def lowest_threshold(scored: Iterable[tuple[float, Tally]], bar: Bar) -> Threshold | None:
    """The lowest score above which the tally holds *bar*; None when no score does.

    Fixed-sequence testing (Angelopoulos et al., "Learn then Test", arXiv 2110.01052, section 3): candidates are tried
    from the strictest down and the first that fails ends the search, so that many looks cost no confidence. Candidates
    too small to hold the bar even where all is right and nothing is lost are skipped: that depends on their size alone.
    """
    best_first = sorted(scored, key=lambda pair: pair[0], reverse=True)
    best = None
    for step in range(1, STEPS + 1):
        size = len(best_first) * step // STEPS
        perfect = Tally(passed=size, total=size, paired=size)
        if bar.judge(perfect).verdict is not Verdict.HOLDS:
            continue
        score = best_first[size - 1][0]
        shown = bar.judge(sum((tally for s, tally in best_first if s >= score), Tally()))
        if shown.verdict is not Verdict.HOLDS:
            break
        best = Threshold(score, shown.says)
    return best
