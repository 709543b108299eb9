"""A library for tests: prompts with and without a text of the small tier's own, and what the scripted engines heard."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gateway.library.standing import Standing
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Call
from prompts.library import FEW_TIERS, Library, Version
from prompts.template import Placeholder, Routing, Template, Text, Variant
from router.bar import Bar, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from tests.rig import Rig

INPUTS = {
    "type": "object",
    "required": ["ticket"],
    "properties": {
        "ticket": {"type": "string", "maxLength": 8000, "x-untrusted": True},
        "product": {"type": "string", "default": "core"},
        "urgency": {"type": "integer"},
    },
}
SYSTEM = Text("system", "Answer bug, billing or question. Product: {{ product }}.")
TICKET = Text("user", "{{ ticket }}")
TRIAGE = Template(
    "support/triage",
    (SYSTEM, Placeholder(), TICKET),
    inputs=INPUTS,
    parameters={"temperature": 0, "max_tokens": 50},
    variants={"small": Variant((Text("system", "One word: bug, billing or question."), Placeholder(), TICKET))},
)
PLAIN = Template("plain", (Text("system", "Be brief."),))
FIRST = "Answer bug, billing or question. Product: core."
TIERS = {"small": "One word: bug, billing or question.", "large": FIRST}


def library(*templates: Template, labels: Mapping[str, Mapping[str, int]] | None = None) -> Library:
    """*templates* as versions 1, 2 and so on of their prompts; the latest is in production if nothing else is said."""
    versions: dict[str, dict[int, Version]] = {}
    for template in templates:
        numbers = versions.setdefault(template.id, {})
        numbers[len(numbers) + 1] = Version(template, len(numbers) + 1)
    production = {id: {"production": max(numbers)} for id, numbers in versions.items()}
    return Library(versions, {**production, **(labels or {})})


LIBRARY = library(
    TRIAGE,
    replace(TRIAGE, messages=(Text("system", "Sort it."), Placeholder(), TICKET), variants={}),
    PLAIN,
    labels={"support/triage": {"production": 1, "staging": 2}},
)


def publish(rig: Rig, library: Library) -> None:
    """What the gateway has from now on. Every version has earned every tier that it was not promoted without."""
    tiers = frozenset(library.policy.tiers or FEW_TIERS)
    versions = [version for numbers in library.versions.values() for version in numbers.values()]
    standing = Standing({version.name: tiers - version.excluded for version in versions})
    rig.builder.runtime = replace(rig.builder.runtime, library=library, standing=standing)


def excluding(number: int, *tiers: str, of: Library = LIBRARY) -> Library:
    """*of*, with version *number* of TRIAGE promoted without *tiers*."""
    version = replace(of.versions[TRIAGE.id][number], excluded=frozenset(tiers))
    return replace(of, versions={**of.versions, TRIAGE.id: {**of.versions[TRIAGE.id], number: version}})


def routed(routing: Routing, **fields: Any) -> Template:
    return replace(TRIAGE, routing=routing, **fields)


class Trusting:
    """Makes a router that trusts the small model with *templates*, as 100 paired outcomes without a loss do."""

    def __init__(self, *templates: Template, bar: Bar | None = None, tally: Tally | None = None) -> None:
        self._keys = [template.key for template in templates]
        self._bar = bar or Bar(0.95, margin=0.1)
        self._tally = tally or Tally(passed=100, total=100, paired=100)

    def __call__(self, catalog: Catalog, settings: Settings) -> Knowledge:
        tallies = {(key, catalog.models["small"].build): self._tally for key in self._keys}
        return Knowledge(catalog.chatting, Evidence(tallies), Difficulty({}), {}, self._bar)


def heard(calls: Iterable[Call]) -> list[list[tuple[str, Any]]]:
    """What each call says, as roles and contents."""
    return [[(message["role"], message["content"]) for message in call.body["messages"]] for call in calls]
