"""Where each version may be sent now. A value, made anew with every change; no I/O, no clock.

A version has one tier that it can always be sent to, the dearest of those it may be routed to: its safe tier. A cheaper
one it has to earn, by a valid receipt that holds every bar there; it loses it with whatever makes the receipt stale. An
override opens the tiers that the label was not told to leave out, until it runs out; from then on the version stands
as any other does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.library.gate import gate_of
from gateway.library.lineup import Lineup
from gateway.library.records import Records, Trial
from gateway.library.shares import Key, Share, shares_of
from prompts.library import Version
from prompts.promptfile import Policy
from prompts.template import Template
from router.gate import Gate


@dataclass(frozen=True, slots=True)
class Standing:
    """`tiers` by name of the version. `epoch`: of the records that it was made from. `until`: when the next override
    runs out, which changes it; None where none does. `alarms`: what an operator should know, a line each. `shares`: of
    the canaries that take requests now. `trials`: the last canary of each label.
    """

    tiers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    epoch: int = 0
    until: datetime | None = None
    alarms: tuple[str, ...] = ()
    shares: Mapping[Key, Share] = field(default_factory=dict)
    trials: Mapping[Key, Trial] = field(default_factory=dict)

    def of(self, version: Version) -> frozenset[str] | None:
        """None for a version that it does not know."""
        return self.tiers.get(version.name)


def standing_of(records: Records, lineup: Lineup, now: datetime) -> Standing:
    """Pure over the records, the builds that serve, and the time."""
    policy = records.library.policy
    tiers: dict[str, frozenset[str]] = {}
    alarms: list[str] = []
    for prompt, versions in records.library.versions.items():
        overrides = records.overrides.get(prompt, {})
        labels = records.library.labels.get(prompt, {})
        for number, version in versions.items():
            shown = _gate(version, records, prompt, lineup)
            mine = {label: overrides.get(label) for label, at in labels.items() if at == number}
            overridden = any(until is not None and now < until for until in mine.values())
            tiers[version.name] = _tiers(version, shown, overridden, lineup, policy)
            alarms += _alarms(version, shown, mine, lineup, policy, now)
    running = [until for labels in records.overrides.values() for until in labels.values() if now < until]
    trials = {(prompt, label): trial for prompt, of in records.trials.items() for label, trial in of.items()}
    shares = shares_of(records, tiers, lineup)
    return Standing(tiers, records.epoch, min(running, default=None), tuple(alarms), shares, trials)


def safe_tier_of(template: Template, lineup: Lineup, policy: Policy) -> str:
    """The dearest tier that *template* may be sent to; the house's where nothing that is served fits its wishes."""
    routed = lineup.routed(template, policy)
    return routed[-1].tier if routed else lineup.safe_tier(policy)


def _gate(version: Version, records: Records, prompt: str, lineup: Lineup) -> Gate:
    return gate_of(
        version.template,
        lineup,
        records.library.policy,
        records.suites.get(prompt),
        records.receipts.get(prompt, ()),
        version.excluded,
    )


def _tiers(version: Version, shown: Gate, overridden: bool, lineup: Lineup, policy: Policy) -> frozenset[str]:
    safe = safe_tier_of(version.template, lineup, policy)
    routed = {place.tier for place in lineup.routed(version.template, policy)} - version.excluded
    failing = {row.tier for row in shown.failing}
    shown_on = {row.tier for row in shown.rows} - failing
    return frozenset({safe} | (routed if overridden else routed & shown_on))


def _alarms(
    version: Version,
    shown: Gate,
    labels: Mapping[str, datetime | None],
    lineup: Lineup,
    policy: Policy,
    now: datetime,
) -> Iterator[str]:
    """Of a version that serves under a gated label and does not hold what it was let through for."""
    safe = safe_tier_of(version.template, lineup, policy)
    for label, until in labels.items():
        gated = label in policy.labels and policy.labels[label].gated
        if not gated or (until is not None and now < until):
            continue
        lead = f"{version.name} is {label}"
        if until is not None and shown.failing:
            yield f"{lead} by an override that ran out at {until:%Y-%m-%d %H:%M} UTC: it is sent to {safe} alone"
        else:
            yield from (f"{lead}, and {row.tier} has not shown {row.metric}: {row.why}" for row in shown.failing)
