"""Where each version may be sent now. A value, made anew with every change; no I/O.

A version has one tier that it can always be sent to, the dearest of those it may be routed to: its safe tier. A cheaper
one it has to earn, by a valid receipt that holds every bar; it loses it with whatever makes the receipt stale.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.library.lineup import Lineup
from prompts.library import Version
from prompts.promptfile import Policy
from prompts.template import Template


@dataclass(frozen=True, slots=True)
class Standing:
    """`tiers` by name of the version. `epoch`: of the records that it was made from. `until`: when an override runs
    out, which changes it; None where none does.
    """

    tiers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    epoch: int = 0
    until: datetime | None = None

    def of(self, version: Version) -> frozenset[str] | None:
        """None for a version that it does not know."""
        return self.tiers.get(version.name)


def safe_tier_of(template: Template, lineup: Lineup, policy: Policy) -> str:
    """The dearest tier that *template* may be sent to; the house's where nothing that is served fits its wishes."""
    routed = lineup.routed(template, policy)
    return routed[-1].tier if routed else lineup.safe_tier(policy)
