"""The models that chat, as the gate sees them: which builds serve which tier, what a receipt must be bound to. Pure.

Whoever runs a suite makes its receipt with `Lineup.binding`, so that it is valid exactly while that says the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from models.catalog import Ability, Catalog
from prompts.assertions.kind import Needs
from prompts.canonical import digest
from prompts.judgement import FORM, INSTRUCTION
from prompts.library import tier_of
from prompts.promptfile import Policy
from prompts.receipt import Binding
from prompts.suite import Suite
from prompts.template import AUTO, Template


@dataclass(frozen=True, slots=True)
class Place:
    """A model, its tier in the words of prompts, and its build. `taught`: marks of the cases it was made from."""

    model: str
    tier: str
    build: str
    taught: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lineup:
    """`models`: name and build of those that chat, the cheapest first; the last is the safe tier, and judges.

    `embedder`: the build by which answers are compared, empty where there is none. `confidence`: the gate's. `aliases`:
    the catalogue's other names for models, and for `auto`. `taught`: by build, the marks of what it learnt.
    """

    models: tuple[tuple[str, str], ...]
    confidence: float
    embedder: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    taught: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, catalog: Catalog, confidence: float) -> Self:
        embedders = [model.build for model in catalog if Ability.EMBEDDINGS in model.abilities]
        chatting = tuple((model.name, model.build) for model in catalog.chatting)
        taught = {build: frozenset[str]() for _, build in chatting}
        for model in catalog.chatting:
            taught[model.build] |= set(model.taught)
        return cls(chatting, confidence, embedders[0] if embedders else "", catalog.aliases, taught)

    def places(self, policy: Policy) -> tuple[Place, ...]:
        """Every model with its tier, the cheapest first."""
        count = len(self.models)
        return tuple(
            Place(name, tier_of(at, count, policy.tiers), build, self.taught.get(build, frozenset()))
            for at, (name, build) in enumerate(self.models)
        )

    def safe_tier(self, policy: Policy) -> str:
        return self.places(policy)[-1].tier

    def routed(self, template: Template, policy: Policy) -> tuple[Place, ...]:
        """Where *template* may be sent at all, the cheapest first: its `model`, and its `routing.tiers`.

        Empty where nothing that is served may answer it.
        """
        places = self.places(policy)
        model = self.aliases.get(template.model, template.model)
        if model != AUTO:
            named = tuple(place for place in places if model in (place.model, place.tier))
            places = named or places  # a model that is not served is nothing that the library knows
        tiers = template.routing.tiers
        return tuple(place for place in places if tiers is None or place.tier in tiers)

    def judge(self, suite: Suite) -> str:
        """Whom its assertions ask, as a digest; empty where they ask nobody."""
        asked = {}
        if Needs.JUDGE in suite.needs:
            asked["judge"] = [self.models[-1][1], INSTRUCTION, FORM]
        if Needs.EMBEDDER in suite.needs:
            asked["embedder"] = [self.embedder]
        return digest(asked) if asked else ""

    def binding(self, template: Template, tier: str, build: str, suite: Suite) -> Binding:
        """What a receipt of *suite*, run now on *build*, is bound to: what *tier* is told, not the other variants."""
        parameters = digest([template.parameters_of(template.variant(tier)), template.response_format])
        return Binding(template.told(tier), suite.digest, parameters, build, self.judge(suite))
