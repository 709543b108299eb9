"""The gate of one version: every tier that it may be sent to, and what serves there now, by its receipts. Pure."""

from collections.abc import Iterable, Iterator

from gateway.library.lineup import Lineup, Place
from prompts.fitted import fitted
from prompts.promptfile import Policy
from prompts.receipt import Receipt
from prompts.suite import Bars, Suite
from prompts.template import Template
from router.bar import Bar
from router.gate import ALL, Gate, Row, Served, gate

NO_SUITE = "the prompt has no suite: write tests.yaml beside it, or add one"
NOWHERE = "nothing that is served may answer it: see its routing.tiers and its model"


def gate_of(
    template: Template,
    lineup: Lineup,
    policy: Policy,
    suite: Suite | None,
    receipts: Iterable[Receipt],
    excluded: Iterable[str] = (),
) -> Gate:
    """Whether *template* may serve where it may be sent, but for the tiers *excluded*."""
    out = frozenset(excluded)
    routed = lineup.routed(template, policy)
    if not routed:
        return Gate((Row(lineup.safe_tier(policy), ALL, "", False, NOWHERE),))
    if suite is None:
        tiers = dict.fromkeys(place.tier for place in routed if place.tier not in out)
        return Gate(tuple(Row(tier, ALL, "", False, NO_SUITE) for tier in tiers))
    places = [*routed, *(place for place in lineup.places(policy)[-1:] if place not in routed)]  # to be compared with
    served = [served_by(template, lineup, place, suite) for place in places]
    return gate(
        served,
        [receipt for receipt in receipts if covers(receipt, suite)],
        bars_of(template, policy, suite),
        safe_tier=lineup.safe_tier(policy),
        confidence=lineup.confidence,
        excluded=out.union(place.tier for place in places if place.tier not in {p.tier for p in routed}),
    )


def served_by(template: Template, lineup: Lineup, place: Place, suite: Suite) -> Served:
    """*template* on the model at *place*, as the gate holds it to *suite*."""
    now = lineup.binding(template, place.tier, place.build, suite)
    return Served(place.tier, now, fitted(template, place.tier, suite, place.taught))


def bars_of(template: Template, policy: Policy, suite: Suite) -> Bars:
    """Those of the suite; where it has none, that of the template, then those of the library."""
    bars = suite.bars
    if bars.default is not None:
        return bars
    if template.routing.bar is not None:
        return Bars(_written(template.routing.bar), bars.tiers, bars.tags, bars.metrics)
    house = {tier: _written(bar) for tier, bar in policy.bars.items()}
    default = house.pop("default", None)
    return Bars(default, {**house, **bars.tiers}, bars.tags, bars.metrics)


def live_bar(template: Template, own: Bar) -> Bar:
    """What live answers are held to: *own*, the operator's; a share that the template asks for goes before a share."""
    wanted = template.routing.bar
    return own if wanted is None or own.pass_rate is None else Bar(own.confidence, pass_rate=wanted)


def covers(receipt: Receipt, suite: Suite) -> bool:
    """Whether it counts every case of *suite*, and each as what it is: a case that is left out has not passed."""
    counted = sorted((r.case, sorted(r.tags), sorted(r.metrics)) for r in receipt.results)
    return receipt.binding.suite == suite.digest and counted == sorted(_shapes(suite))


def _shapes(suite: Suite) -> Iterator[tuple[str, list[str], list[str]]]:
    for case in suite.cases:
        yield case.id, sorted(case.tags), sorted({a.metric for a in case.assertions if a.metric is not None})


def _written(bar: float) -> str:
    return f"{bar:f}".rstrip("0")
