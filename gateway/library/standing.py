"""Where each version may be sent now. A value, made anew with every change; no I/O, no clock.

A version has one tier that it can always be sent to, the dearest of those it may be routed to: its safe tier. A cheaper
one it has to earn, by a valid receipt that holds every bar there; it loses it with whatever makes the receipt stale. An
override opens the tiers that the label was not told to leave out, until it runs out; from then on the version stands
as any other does.

Where one prompt has changed, what was found of the others is taken over: with ten thousand versions it is still seen at
once.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.library.gate import gate_of
from gateway.library.lineup import Lineup
from gateway.library.records import Records, Trial
from gateway.library.shares import Key, Share, shares_of
from prompts.library import Version
from prompts.promptfile import Policy
from prompts.receipt import Receipt
from prompts.suite import Suite
from prompts.template import Template
from router.gate import Gate

NOT_ASKED = Gate(())


@dataclass(frozen=True, slots=True)
class Alarm:
    """A version serves under a gated label without having shown all that this asks: a build, a suite or a bar is
    another since it was let through, an override has run out, or the label was not gated then. Nothing moves by that.
    """

    prompt: str
    label: str
    version: str
    says: str

    def __str__(self) -> str:
        return f"{self.version} is {self.label}{self.says}"


@dataclass(frozen=True, slots=True)
class Given:
    """All that the standing of one prompt's versions rests on, but for the house's lineup and policy, and the time."""

    versions: Mapping[int, Version]
    labels: Mapping[str, int]
    overrides: Mapping[str, datetime]
    suite: Suite | None
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The standing of one prompt's versions, and what it was found by."""

    given: Given
    tiers: Mapping[str, frozenset[str]]
    alarms: tuple[Alarm, ...]
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """`tiers` by name of the version. `epoch`: of the records that it was made from. `until`: when the next override
    runs out, which changes it; None where none does. `alarms`: what an operator should know. `shares`: of the canaries
    that take requests now. `trials`: the last canary of each label. `house` and `parts`: what the next one takes over.
    """

    tiers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    epoch: int = 0
    until: datetime | None = None
    alarms: tuple[Alarm, ...] = ()
    shares: Mapping[Key, Share] = field(default_factory=dict)
    trials: Mapping[Key, Trial] = field(default_factory=dict)
    house: tuple[Lineup, Policy] | None = field(default=None, repr=False)
    parts: Mapping[str, Part] = field(default_factory=dict, repr=False)

    def of(self, version: Version) -> frozenset[str] | None:
        """None for a version that it does not know."""
        return self.tiers.get(version.name)


NOTHING = Standing()


def standing_of(records: Records, lineup: Lineup, now: datetime, before: Standing = NOTHING) -> Standing:
    """Pure over the records, the builds that serve, and the time; *before* changes nothing but how long it takes."""
    library = records.library
    house = (lineup, library.policy)
    known = before.parts if before.house == house else {}
    parts: dict[str, Part] = {}
    for prompt, versions in library.versions.items():
        labels, overrides = library.labels.get(prompt, {}), records.overrides.get(prompt, {})
        receipts = records.receipts.get(prompt, ())
        given, old = Given(versions, labels, overrides, records.suites.get(prompt), receipts), known.get(prompt)
        is_same = old is not None and old.given == given and (old.until is None or now < old.until)
        parts[prompt] = old if old is not None and is_same else _part(given, lineup, library.policy, now)
    tiers = {name: of for part in parts.values() for name, of in part.tiers.items()}
    return Standing(
        tiers,
        records.epoch,
        min((part.until for part in parts.values() if part.until is not None), default=None),
        tuple(alarm for part in parts.values() for alarm in part.alarms),
        shares_of(records, tiers, lineup),
        {(prompt, label): trial for prompt, of in records.trials.items() for label, trial in of.items()},
        house,
        parts,
    )


def _part(given: Given, lineup: Lineup, policy: Policy, now: datetime) -> Part:
    tiers: dict[str, frozenset[str]] = {}
    alarms: list[Alarm] = []
    told = {receipt.binding.template for receipt in given.receipts}
    for number, version in given.versions.items():
        mine = {label: given.overrides.get(label) for label, at in given.labels.items() if at == number}
        overridden = any(until is not None and now < until for until in mine.values())
        shown = _gate(version, given, lineup, policy) if mine or _is_told(version, lineup, policy, told) else NOT_ASKED
        tiers[version.name] = _tiers(version, shown, overridden, lineup, policy)
        sent = [place.tier for place in lineup.places(policy) if place.tier in tiers[version.name]]
        alarms += _alarms(version, shown, mine, ", ".join(dict.fromkeys(sent)), policy, now)
    running = (until for until in given.overrides.values() if now < until)
    return Part(given, tiers, tuple(alarms), min(running, default=None))


def _is_told(version: Version, lineup: Lineup, policy: Policy, told: Collection[str]) -> bool:
    """Whether a receipt is of what it says to a tier. Without one it has shown nothing; the gate need not say so."""
    return any(version.template.told(place.tier) in told for place in lineup.routed(version.template, policy))


def safe_tier_of(template: Template, lineup: Lineup, policy: Policy) -> str:
    """The dearest tier that *template* may be sent to; the house's where nothing that is served fits its wishes."""
    routed = lineup.routed(template, policy)
    return routed[-1].tier if routed else lineup.safe_tier(policy)


def _gate(version: Version, given: Given, lineup: Lineup, policy: Policy) -> Gate:
    return gate_of(version.template, lineup, policy, given.suite, given.receipts, version.excluded)


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
    sent: str,
    policy: Policy,
    now: datetime,
) -> Iterator[Alarm]:
    """*sent*: where it goes now, in words."""
    for label, until in labels.items():
        gated = label in policy.labels and policy.labels[label].gated
        if not gated or (until is not None and now < until):
            continue
        if until is not None and shown.failing:
            told = [f" by an override that ran out at {until:%Y-%m-%d %H:%M} UTC"]
        else:
            told = [f", and {row.tier} has not shown {row.metric}: {row.why}" for row in shown.failing]
        for says in told:
            yield Alarm(
                version.template.id, label, version.name, f"{says}: it stays there, and is sent to {sent} alone"
            )
