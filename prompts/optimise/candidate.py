"""What a tier may be told instead: messages, tried as a draft of the template they are for. Values; no I/O."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prompts.template import Part, Template, Text, Variant

Candidate = tuple[Part, ...]
INSTRUCTING = ("system", "developer")


def told(template: Template, tier: str) -> Candidate:
    """What *tier* is told now."""
    return template.parts(template.variant(tier))


def draft(template: Template, tier: str, candidate: Candidate, fitted: Sequence[str] = ()) -> Template:
    """*template* with another text for *tier*, made from the cases of the marks *fitted* and those that the text before
    it was; everything else, the tier's parameters too, is as it was.
    """
    before = template.variants.get(tier, Variant())
    variant = Variant(candidate, before.parameters, (*before.fitted, *fitted))
    return replace(template, variants={**template.variants, tier: variant})


def asked_with(template: Template, tier: str) -> dict[str, Any]:
    """The parameters of a call, the form of the answer with them."""
    own = dict(template.parameters_of(template.variant(tier)))
    return own if template.response_format is None else {**own, "response_format": dict(template.response_format)}


def components(candidate: Candidate) -> dict[str, str]:
    """The texts that may be rewritten, by place: instructions, or where there are none what the user says."""
    texts = {place: part for place, part in enumerate(candidate) if isinstance(part, Text)}
    instructing = {place: part for place, part in texts.items() if part.role in INSTRUCTING}
    return {f"messages.{place}": part.content for place, part in (instructing or texts).items()}


def rewritten(candidate: Candidate, texts: dict[str, str]) -> Candidate:
    """*candidate* with *texts*, by the names of `components`, in their places."""

    def new(place: int, part: Part) -> Part:
        text = texts.get(f"messages.{place}")
        return part if text is None or not isinstance(part, Text) else Text(part.role, text)

    return tuple(new(place, part) for place, part in enumerate(candidate))


def characters(candidate: Candidate) -> int:
    return sum(len(part.content) for part in candidate if isinstance(part, Text))
