"""A small library: two models, a prompt with a suite of twenty cases, and receipts that pass or fail."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.library.lineup import Lineup
from gateway.library.store import LibraryStore
from prompts.assertions.kind import Assertion
from prompts.promptfile import Policy
from prompts.receipt import Receipt, Result
from prompts.suite import Bars, Case, Suite
from prompts.template import Routing, Template, Text

PROMPT = "support/triage"
NO_POLICY = Policy()
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LINEUP = Lineup((("small", "build-small"), ("large", "build-large")), 0.95)
CASES = 20
SUITE = Suite(
    tuple(Case(f"c{n}", (Assertion("equals", value="yes"),), {"text": f"t{n}"}) for n in range(CASES)), Bars("0.8")
)


def template(said: str = "Say yes.", prompt: str = PROMPT, tiers: tuple[str, ...] | None = None) -> Template:
    inputs = {"type": "object", "properties": {"text": {"type": "string"}}}
    messages = (Text("system", said), Text("user", "{{ text }}"))
    return Template(prompt, messages, inputs, routing=Routing(tiers=tiers))


def receipt(
    of: Template,
    tier: str,
    *,
    passed: int = CASES,
    lineup: Lineup = LINEUP,
    suite: Suite = SUITE,
    made_at: datetime = NOW,
) -> Receipt:
    """Of all cases, the first *passed* of which have passed, on the build that serves *tier* in *lineup*."""
    builds = {place.tier: place.build for place in lineup.places(NO_POLICY)}
    results = tuple(Result(case.id, at < passed) for at, case in enumerate(suite.cases))
    return Receipt(lineup.binding(of, tier, builds[tier], suite), tier, results, made_at, 1.0)


def prove(store: LibraryStore, of: Template, *tiers: str, passed: int = CASES, after: timedelta = timedelta()) -> None:
    for tier in tiers:
        made = receipt(of, tier, passed=passed, lineup=store.lineup, made_at=NOW + after)
        store.add_receipt(of.id, made, author="test")


def rebuilt(lineup: Lineup, tiers: Iterable[str]) -> Lineup:
    """With other builds of these models."""
    return replace(lineup, models=tuple((n, f"{b}'" if n in {*tiers} else b) for n, b in lineup.models))
