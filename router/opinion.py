"""A second opinion: a cheaper model answers the same prompt too, and an answer that it agrees with is released.

Both are read as the template's grader reads them (`prompts.grade.said`), for the calibration as for the client.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from prompts.compare import Graded
from router.bar import Bar, Tally, Verdict
from router.evidence import tally_of
from router.outcomes import Outcome
from router.signals import Signals


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """Release an answer where the build `second` says the same, as the grader called `grade` reads both.

    `release_share`: of the prompts it was calibrated on, so many pass (0 to 1). `hold_seconds`: how long the client may
    wait for both answers.
    """

    second: str
    grade: str
    release_share: float
    says: str
    hold_seconds: float | None = None

    @property
    def hold_tokens(self) -> None:
        """Only whole answers say the same."""

    def passes(self, signals: Signals | None, answer: str, other: str | None) -> bool:
        """*other*: what the second model has answered; None where it has not, in time and to its end."""
        if signals is None or signals.finish_reason is None or not signals.is_sound or other is None:
            return False
        comparer = Graded(self.grade)
        return comparer.takes(answer) and comparer.same(answer, other)

    def failure(self, signals: Signals | None, other: str | None) -> str:
        """Why an answer with these signals did not pass; None: it was not there in time."""
        if signals is None:
            return "its answer was not there in time"
        if not signals.is_sound:
            return "its answer was none: it was cut off, refused, or is not in the form that was asked for"
        return "there was no second opinion" if other is None else "the second opinion is another one"


def second_opinions(
    builds: Sequence[str],
    safe_build: str,
    known: Iterable[Outcome],
    graders: Mapping[str, str],
    bar: Bar,
    hold_seconds: float,
) -> dict[tuple[str, str], tuple[SecondOpinion, ...]]:
    """By template and build: the second opinions that hold the bar. *builds*: from the cheapest up, without the safe
    tier; each may be asked about those above it, as two that agree have said the same whoever answers.

    Nothing is fitted, so *known* may be every prompt but those kept to judge. What is promised is about both together,
    the answers that pass and the safe tier's where they do not; it holds for all second opinions on an answer at once,
    as they share the error that the bar's confidence leaves.
    """
    answers: dict[str, dict[str, dict[str, Outcome]]] = {}  # by template, build and prompt
    for outcome in known:
        if outcome.template in graders:
            answers.setdefault(outcome.template, {}).setdefault(outcome.build, {})[outcome.prompt_id] = outcome
    found = {}
    for template, by_build in answers.items():
        for place, build in enumerate(builds):
            samples = {second: _sample(by_build, build, second, safe_build) for second in builds[:place]}
            asked = {second: sample for second, sample in samples.items() if sample}
            own = replace(bar, confidence=1 - (1 - bar.confidence) / max(1, len(asked)))
            holding = [
                SecondOpinion(
                    second, graders[template], sum(a.agrees for a in sample) / len(sample), says, hold_seconds
                )
                for second, sample in asked.items()
                if (says := _holds(sample, own)) is not None
            ]
            if holding:
                found[template, build] = tuple(holding)
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt that both models and the safe tier have answered."""

    agrees: bool
    correct: bool
    safe_correct: bool

    @property
    def tally(self) -> Tally:
        return tally_of(self.correct if self.agrees else self.safe_correct, self.safe_correct)


def agree(one: Outcome, other: Outcome) -> bool:
    """Both have come to their own end and say the same."""
    return bool(one.said) and one.said == other.said and one.signals.is_sound and other.signals.is_sound


def _sample(by_build: Mapping[str, Mapping[str, Outcome]], build: str, second: str, safe_build: str) -> list[_Asked]:
    """Prompts of which it was recorded what both say."""
    answers, seconds, safe = (by_build.get(one, {}) for one in (build, second, safe_build))
    return [
        _Asked(agree(answer, seconds[prompt]), answer.correct, safe[prompt].correct)
        for prompt, answer in answers.items()
        if prompt in seconds and prompt in safe and answer.is_read and seconds[prompt].is_read
    ]


def _holds(sample: Sequence[_Asked], bar: Bar) -> str | None:
    """What was counted, where it holds *bar* and anything would be released."""
    if not any(asked.agrees for asked in sample):
        return None
    shown = bar.judge(sum((asked.tally for asked in sample), Tally()))
    return shown.says if shown.verdict is Verdict.HOLDS else None
