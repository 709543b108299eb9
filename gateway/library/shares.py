"""What canaries take of labels' requests now. A value, made anew with every change; no I/O.

A canary rests while its version has not proved the tier that it is tried on, as after a change of the suite, and while
other builds serve that than those it began with: then the label is where it is for everybody.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.library.lineup import Lineup
from gateway.library.records import Records
from prompts.library import Version
from router.exploring import is_drawn

Key = tuple[str, str]  # prompt and label


@dataclass(frozen=True, slots=True)
class Share:
    """`size`, 0 to 1, of a label's requests go to *version*, on the first of *models* that can. `says`: why."""

    version: Version
    models: tuple[str, ...]
    size: float
    says: str

    def takes(self, number: int) -> bool:
        """Whether the request of this *number* (`router.exploring.number_of`) is one of them."""
        return is_drawn(number, self.size)


def shares_of(records: Records, tiers: Mapping[str, frozenset[str]], lineup: Lineup) -> Mapping[Key, Share]:
    """*tiers*: where each version may be sent."""
    return dict(_shares(records, tiers, lineup))


def _shares(records: Records, tiers: Mapping[str, frozenset[str]], lineup: Lineup) -> Iterator[tuple[Key, Share]]:
    for prompt, trials in records.trials.items():
        for label, trial in trials.items():
            if not trial.runs or trial.tier not in tiers.get(trial.name, ()):
                continue
            version = records.library.versions[prompt][trial.number]
            routed = lineup.routed(version.template, records.library.policy)
            on_tier = [place for place in routed if place.tier == trial.tier]
            if tuple(place.build for place in on_tier) != trial.builds:
                continue
            models = tuple(place.model for place in on_tier)
            size = trial.canary.share
            says = f"a canary of {trial.name} takes {size:.0%} of the requests of {label}"
            yield (prompt, label), Share(version, models, size, says)
