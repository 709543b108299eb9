"""From which score on an estimate may be trusted: thresholds with an exact bound, on held-back prompts.

Two estimates have one: a prompt's looks (`Threshold`), and the signals of an answer (`router.check.Check`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.bar import Bar, Tally, Verdict
from router.check import Check, Verifier
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


@dataclass(frozen=True, slots=True)
class Checked:
    """A calibration prompt: the chance that the cheaper model's answer is right, by its signals, and what the pair
    counts as when that answer is released and when the safe tier answers instead.
    """

    chance: float
    released: Tally
    escalated: Tally


def checks(
    builds: Iterable[str],
    safe_build: str,
    calibration: Sequence[Outcome],
    verifiers: Mapping[tuple[str, str], Verifier],
    bar: Bar,
    hold_tokens: int,
    hold_seconds: float,
) -> dict[tuple[str, str, bool], Check]:
    """By template, build and whether the answer is streamed: the check that releases the most and holds the bar.

    What a check promises is about both together, the answers that pass and the safe tier's where they do not. A
    streamed answer fails when it has not ended within *hold_tokens*. Templates with too few prompts have none.
    """
    safe_was_right = {o.prompt_id: o.correct for o in calibration if o.build == safe_build}
    wanted = set(builds)
    pairs: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in calibration:
        if outcome.build in wanted and outcome.prompt_id in safe_was_right:
            pairs.setdefault((outcome.template, outcome.build), []).append(outcome)
    found = {}
    for (template, build), outcomes in pairs.items():
        verifier = verifiers.get((template, build))
        if verifier is None:
            continue
        for streamed in (False, True):
            most_tokens = hold_tokens if streamed else None
            answers = [_checked(o, verifier, safe_was_right[o.prompt_id], most_tokens) for o in outcomes]
            lowest = lowest_check(answers, bar)
            if lowest is not None:
                score, share, says = lowest
                found[template, build, streamed] = Check(verifier, score, share, says, most_tokens, hold_seconds)
    return found


def lowest_check(answers: Sequence[Checked], bar: Bar) -> tuple[float, float, str] | None:
    """The lowest chance from which on answers may be released, the share that are, and what was counted; None when no
    chance holds *bar*. Tried from the strictest down, as in `lowest_threshold`.
    """
    best_first = sorted(answers, key=lambda answer: answer.chance, reverse=True)
    best = None
    for step in range(1, STEPS + 1):
        size = len(best_first) * step // STEPS
        if size == 0:
            continue
        score = best_first[size - 1].chance
        if score <= 0.0:  # from here on they are no sound answers
            break
        released = sum(a.chance >= score for a in best_first)
        shown = bar.judge(sum((a.released if a.chance >= score else a.escalated for a in best_first), Tally()))
        if shown.verdict is not Verdict.HOLDS:
            break
        best = score, released / len(best_first), shown.says
    return best


def _checked(outcome: Outcome, verifier: Verifier, safe_correct: bool, most_tokens: int | None) -> Checked:
    in_time = most_tokens is None or outcome.completion_tokens <= most_tokens
    chance = verifier.chance(outcome.signals) if in_time else 0.0
    return Checked(chance, tally_of(outcome.correct, safe_correct), tally_of(safe_correct, safe_correct))
