"""Evidence: what is counted about each model build on each template. A value; no I/O, no clock."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.bar import Tally
from router.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Evidence:
    """Tallies by (template key, model build). What is not in it is not known."""

    tallies: Mapping[tuple[str, str], Tally]

    def about(self, template: str | None, build: str) -> Tally | None:
        return self.tallies.get((template, build)) if template else None


def count(outcomes: Iterable[Outcome], safe_build: str) -> Evidence:
    """Tally *outcomes*, each against the safe tier's answer to the same prompt where there is one."""
    rows = list(outcomes)
    safe_was_right = {o.prompt_id: o.correct for o in rows if o.build == safe_build}
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for outcome in rows:
        tallies[outcome.template, outcome.build] += tally_of(outcome.correct, safe_was_right.get(outcome.prompt_id))
    return Evidence(dict(tallies))


def tally_of(correct: bool, safe_correct: bool | None) -> Tally:
    """One outcome; *safe_correct* is None where the safe tier has not answered that prompt."""
    if safe_correct is None:
        return Tally(passed=correct, total=1)
    return Tally(passed=correct, total=1, lost=safe_correct and not correct, won=correct and not safe_correct, paired=1)
