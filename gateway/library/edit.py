"""What an edit of a prompt changes: its text, its tokens for each tier, and what that costs a day. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.library.lineup import Lineup
from gateway.library.traffic import DayCost, Traffic, day_costs
from models.catalog import Model
from prompts.diff import Change, diff, token_delta
from prompts.library import Version
from prompts.lint import Counter
from prompts.promptfile import Policy
from prompts.template import Template

CHARACTERS_PER_TOKEN = 4  # of English, by rule of thumb


@dataclass(frozen=True, slots=True)
class Edit:
    """`tokens`: how many more a call has, by tier; without those that cannot be rendered. `is_guess`: they are guessed
    from characters. `costs`: at the real traffic, a model each; empty where there was none.
    """

    changes: tuple[Change, ...]
    tokens: Mapping[str, int]
    is_guess: bool
    costs: tuple[DayCost, ...]

    @property
    def usd_per_day(self) -> Decimal | None:
        """Of the models whose price is known; None where none is."""
        known = [cost.usd for cost in self.costs if cost.usd is not None]
        return sum(known, Decimal(0)) if known else None

    def document(self) -> dict[str, Any]:
        total = self.usd_per_day
        return {
            "changes": [{"what": change.what, "lines": list(change.lines)} for change in self.changes],
            "tokens": dict(self.tokens),
            "tokens_are_guessed": self.is_guess,
            "traffic": list(map(_cost, self.costs)),
            "usd_per_day": None if total is None else float(total),
        }


def keys_of(sides: Iterable[Template], versions: Iterable[Version]) -> frozenset[str]:
    """Whose traffic an edit is about: that of every version, as it replaces what is called now."""
    return frozenset([*(side.key for side in sides), *(version.template.key for version in versions)])


def edit_of(
    old: Template,
    new: Template,
    lineup: Lineup,
    policy: Policy,
    rows: Mapping[str, Model],
    traffic: Sequence[Traffic],
    counting: Mapping[str, Counter] | None = None,
) -> Edit:
    """*rows*: models by name. *counting*: what counts tokens, by tier; None guesses."""
    tier_by_model = {place.model: place.tier for place in lineup.places(policy)}
    tiers = dict.fromkeys(tier_by_model.values())
    counters = dict.fromkeys(tiers, guessed) if counting is None else counting
    deltas = {tier: token_delta(old, new, tier, counters[tier]) for tier in tiers if tier in counters}
    tokens = {tier: delta for tier, delta in deltas.items() if delta is not None}
    costs = day_costs(traffic, rows, lambda model: tokens.get(tier_by_model.get(model, "")))
    return Edit(tuple(diff(old, new)), tokens, counting is None, tuple(costs))


def guessed(text: str) -> int:
    return round(len(text) / CHARACTERS_PER_TOKEN)


def _cost(cost: DayCost) -> dict[str, Any]:
    return {
        "model": cost.traffic.model,
        "calls_per_day": cost.traffic.calls_per_day,
        "cached_share": cost.traffic.cached_share,
        "tokens_per_call": cost.tokens,
        "usd_per_day": None if cost.usd is None else float(cost.usd),
    }
