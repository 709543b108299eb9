"""From which score on an estimate may be trusted: thresholds with an exact bound, on held-back prompts.

Two estimates have one: a prompt's looks (`Threshold`), and the signals of an answer (`router.check.Check`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from router.bar import Bar, Shown, Tally, Verdict
from router.check import Check, Verifier, Verifiers
from router.evidence import tally_of
from router.outcomes import FIRST_TOKENS, Outcome
from router.signals import Signals

STEPS = 20  # candidate thresholds: the best 1/20, 2/20, ... of the calibration prompts
STARTS = (1, 5, 10, 20)  # steps: the best twentieth, quarter, half, and all


@dataclass(frozen=True, slots=True)
class Threshold:
    """On the calibration prompts that score at least `score`, `says` is what was counted; it holds the bar."""

    score: float
    says: str


def thresholds(
    builds: Iterable[str],
    safe_build: str,
    outcomes: Collection[Outcome],
    is_open: Callable[[str, str], bool],
    bar: Bar,
) -> dict[str, Threshold]:
    """For each of *builds* the lowest threshold that holds the bar; a build without one is left out.

    Calibrated on what looks will decide, and nothing else: templates of which outcomes alone leave it open whether the
    build holds the bar (*is_open*, by template and build), each outcome with what was expected of it by a model that
    had not seen it.
    """
    safe = {o.prompt_id: o for o in outcomes if o.build == safe_build and o.chance is not None}
    wanted = set(builds)
    scored: dict[str, list[tuple[float, Tally]]] = {}
    for outcome in outcomes:
        beside = safe.get(outcome.prompt_id)
        if outcome.build not in wanted or outcome.chance is None or beside is None or beside.chance is None:
            continue
        if is_open(outcome.template, outcome.build):
            pair = (outcome.chance - beside.chance, tally_of(outcome.correct, beside.correct))
            scored.setdefault(outcome.build, []).append(pair)
    found = {build: lowest_threshold(pairs, bar) for build, pairs in scored.items()}
    return {build: threshold for build, threshold in found.items() if threshold is not None}


def lowest_threshold(scored: Iterable[tuple[float, Tally]], bar: Bar) -> Threshold | None:
    """The lowest score above which the tally holds *bar*; None when no score does.

    Fixed-sequence testing from several starts (Angelopoulos et al., "Learn then Test", arXiv 2110.01052, section 3):
    from each, candidates are tried from the stricter to the looser, and the first that fails ends its sequence, so that
    many looks cost no confidence; the starts share it. With one start, the strictest, a few unlucky prompts at the top
    would end it all. Candidates too small to hold the bar even where all is right and nothing is lost are skipped: that
    depends on their size alone.
    """
    best_first = sorted(scored, key=lambda pair: pair[0], reverse=True)
    shared = replace(bar, confidence=1 - (1 - bar.confidence) / len(STARTS))

    @cache
    def shown(step: int) -> Shown | None:
        """None for a candidate that is too small."""
        size = len(best_first) * step // STEPS
        if shared.judge(Tally(passed=size, total=size, paired=size)).verdict is not Verdict.HOLDS:
            return None
        score = best_first[size - 1][0]
        return shared.judge(sum((tally for s, tally in best_first if s >= score), Tally()))

    lowest = 0
    for start in STARTS:
        for step in range(start, STEPS + 1):
            found = shown(step)
            if found is not None and found.verdict is not Verdict.HOLDS:
                break
            if found is not None:
                lowest = max(lowest, step)
    holding = shown(lowest) if lowest else None
    return Threshold(best_first[len(best_first) * lowest // STEPS - 1][0], holding.says) if holding else None


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
    verifiers: Verifiers,
    bar: Bar,
    hold_tokens: int,
    hold_seconds: float,
) -> dict[tuple[str, str, bool], Check]:
    """By template, build and whether the answer is streamed: the check that releases the most and holds the bar.

    What a check promises is about both together, the answers that pass and the safe tier's where they do not. A
    streamed answer is judged within *hold_tokens*: by its beginning, where there are beginnings of that length, else it
    fails when it has not ended by then. Templates with too few prompts have no check.
    """
    safe_was_right = {o.prompt_id: o.correct for o in calibration if o.build == safe_build}
    wanted = set(builds)
    pairs: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in calibration:
        if outcome.build in wanted and outcome.prompt_id in safe_was_right:
            pairs.setdefault((outcome.template, outcome.build), []).append(outcome)
    found = {}
    for (template, build), outcomes in pairs.items():
        for streamed in (False, True):
            by_beginning = streamed and hold_tokens == FIRST_TOKENS and (template, build, True) in verifiers
            verifier = verifiers.get((template, build, by_beginning))
            if verifier is None:
                continue
            most_tokens = hold_tokens if streamed else None
            answers = [
                _checked(signals, verifier, outcome.correct, safe_was_right[outcome.prompt_id])
                for outcome in outcomes
                if (signals := outcome.first_signals if by_beginning else _in_time(outcome, most_tokens)) is not None
            ]
            lowest = lowest_check(answers, bar)
            if lowest is not None:
                score, share, says = lowest
                check = Check(verifier, score, share, says, most_tokens, hold_seconds, by_beginning)
                found[template, build, streamed] = check
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


def _in_time(outcome: Outcome, most_tokens: int | None) -> Signals:
    """Those of the whole answer; of none where it had not ended after *most_tokens*."""
    in_time = most_tokens is None or outcome.completion_tokens <= most_tokens
    return outcome.signals if in_time else Signals(tokens=0)


def _checked(signals: Signals, verifier: Verifier, correct: bool, safe_correct: bool) -> Checked:
    return Checked(verifier.chance(signals), tally_of(correct, safe_correct), tally_of(safe_correct, safe_correct))
