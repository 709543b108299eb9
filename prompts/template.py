"""What a template is, and its identity: the digest of its canonical form. Renders nothing, reads no files."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from prompts.canonical import canonical, folded
from prompts.message import TEMPLATE_KEY_HEX_DIGITS, Message

FORMAT = 1  # of the canonical form; another one gives every version another digest
BASE: Final = "base"  # the text for every tier that has no variant
AUTO: Final = "auto"  # the router decides which model answers
HISTORY: Final = "history"
NAME = r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?"  # no dot, which parts a prompt from its tier, and no @ before a label
ID = re.compile(rf"{NAME}(?:/{NAME}){{0,7}}")
TIER = re.compile(r"[a-z][a-z0-9_-]{0,31}")
NO_INPUTS: Mapping[str, Any] = {"type": "object", "additionalProperties": False}


class Hold(StrEnum):
    """How much of an answer may be held back until it is clear whether the client may see it: nothing (so no answer is
    looked at before), of a stream its first tokens (another comes whole in any case), or all of it.
    """

    NONE = "none"
    FIRST = "first"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Text:
    """A message of the template; `content` is rendered by itself, and becomes one message with this role."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Where the client's own messages go. A template without one has it at its end."""


Part = Text | Placeholder


@dataclass(frozen=True, slots=True)
class Variant:
    """What one tier is told instead. `messages`: None for the base's. `parameters` go over the base's. `fitted`: as of
    the template, besides those.
    """

    messages: tuple[Part, ...] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """What a template wishes of the router. `bar`: the share of answers that must pass, 0 to 1; None is the library's.

    `tiers`: those that may answer; None is all. `stratify_by`: variables by whose values results are told apart.
    """

    bar: float | None = None
    tiers: tuple[str, ...] | None = None
    stratify_by: tuple[str, ...] = ()
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """One version of a prompt, with everything that it is made of. Two with one digest are equal.

    `inputs`: a JSON Schema 2020-12 of the variables, closed: what it does not name is refused. `partials`: the texts
    that messages include, by name; they belong to the version, so nobody who edits a partial changes one that exists.
    `locked`: parameters that no request overrides. `client_system`: a client's own system messages are let in.
    `fitted`: marks of the cases that the text was made from (`prompts.fitted`).

    Numbers have one form (1.0 is 1) and lines one ending. Raises ValueError for what is not JSON. Whether the parts fit
    together, `check` knows.
    """

    id: str
    messages: tuple[Part, ...]
    inputs: Mapping[str, Any] = field(default_factory=lambda: NO_INPUTS)
    description: str = ""
    model: str = AUTO
    parameters: Mapping[str, Any] = field(default_factory=dict)
    response_format: Mapping[str, Any] | None = None
    routing: Routing = Routing()
    locked: frozenset[str] = frozenset()
    client_system: bool = False
    variants: Mapping[str, Variant] = field(default_factory=dict)
    partials: Mapping[str, str] = field(default_factory=dict)
    fitted: tuple[str, ...] = ()
    digest: str = field(init=False)
    """SHA-256 of the canonical form, 64 hex digits."""
    _told: dict[str, str] = field(init=False, repr=False, default_factory=dict)  # by variant, once it was asked for
    key: str = field(init=False)
    """What the router knows the version by: 16 hex digits, the same for two that differ in nothing a model sees, and
    were made from the same cases."""

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("messages", tuple(map(_one_ending, self.messages)))
        put("partials", {name: _lines(text) for name, text in self.partials.items()})
        put("fitted", _each_once(self.fitted))
        try:
            put("inputs", {"additionalProperties": False, **folded(self.inputs)})
            put("parameters", folded(self.parameters))
            put("response_format", folded(self.response_format))
            put("variants", {tier: _one_form(variant) for tier, variant in self.variants.items()})
        except RecursionError as error:
            raise ValueError("a template is nested deeper than JSON can be written") from error
        said = _canonical(self)
        put("digest", hashlib.sha256(_written(said)).hexdigest())
        for name in ("description", "model", "routing"):
            del said[name]
        put("key", hashlib.sha256(_written(said)).hexdigest()[:TEMPLATE_KEY_HEX_DIGITS])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def canonical(self) -> bytes:
        """JSON with sorted keys, from which `template_of` makes the same template."""
        return _written(_canonical(self))

    def variant(self, tier: str | None) -> str:
        """The name of the text for *tier*: the tier's own, or the base."""
        return tier if tier is not None and tier in self.variants else BASE

    def parts(self, variant: str) -> tuple[Part, ...]:
        own = None if variant == BASE else self.variants[variant].messages
        return self.messages if own is None else own

    def parameters_of(self, variant: str) -> Mapping[str, Any]:
        return self.parameters if variant == BASE else {**self.parameters, **self.variants[variant].parameters}

    def fitted_on(self, tier: str | None) -> tuple[str, ...]:
        """The cases that the text for *tier* was made from: the base's too, as a variant is begun from that."""
        variant = self.variant(tier)
        return self.fitted if variant == BASE else _each_once((*self.fitted, *self.variants[variant].fitted))

    def told(self, tier: str | None) -> str:
        """SHA-256 of all that a model of *tier* is told, and of the cases that it was made from: what was found of one
        text holds while only others change.
        """
        variant = self.variant(tier)
        if variant in self._told:
            return self._told[variant]
        said = _canonical(self)
        for name in ("description", "model", "routing", "variants"):
            del said[name]
        said["messages"] = list(map(_said, self.parts(variant)))
        said["parameters"] = self.parameters_of(variant)
        said |= _fitted(self.fitted_on(tier))
        told = self._told[variant] = hashlib.sha256(_written(said)).hexdigest()
        return told

    def all_parts(self) -> Iterator[tuple[str, int, Part]]:
        """Every part that is written, once: its variant, its place there, and the part."""
        yield from ((BASE, place, part) for place, part in enumerate(self.messages))
        for tier, variant in self.variants.items():
            yield from ((tier, place, part) for place, part in enumerate(variant.messages or ()))


def template_of(canonical: bytes) -> Template:
    """Raises ValueError for what `Template.canonical` has not written."""
    try:
        said = orjson.loads(canonical)
        if said.pop("format") != FORMAT:
            raise ValueError(f"a template of another format than {FORMAT}; a newer version of the program wrote it")
        routing = said.pop("routing")
        return Template(
            messages=_parts(said.pop("messages")),
            routing=Routing(
                routing["bar"],
                None if routing["tiers"] is None else tuple(routing["tiers"]),
                tuple(routing["stratify_by"]),
                None if routing["hold"] is None else Hold(routing["hold"]),
            ),
            locked=frozenset(said.pop("locked")),
            fitted=tuple(said.pop("fitted", ())),
            variants={tier: _variant(variant) for tier, variant in said.pop("variants").items()},
            **said,
        )
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"not the canonical form of a template: {error!r}") from error


def _variant(said: Mapping[str, Any]) -> Variant:
    messages = None if said["messages"] is None else _parts(said["messages"])
    return Variant(messages, said["parameters"], tuple(said.get("fitted", ())))


def _canonical(template: Template) -> dict[str, Any]:
    routing = template.routing
    return {
        "format": FORMAT,
        "id": template.id,
        "description": template.description,
        "model": template.model,
        "messages": list(map(_said, template.messages)),
        "inputs": template.inputs,
        "parameters": template.parameters,
        "response_format": template.response_format,
        "routing": {
            "bar": folded(routing.bar),
            "tiers": routing.tiers,
            "stratify_by": routing.stratify_by,
            "hold": routing.hold,
        },
        "locked": sorted(template.locked),
        "client_system": template.client_system,
        "variants": {
            tier: {
                "messages": None if variant.messages is None else list(map(_said, variant.messages)),
                "parameters": variant.parameters,
                **_fitted(variant.fitted),
            }
            for tier, variant in template.variants.items()
        },
        "partials": template.partials,
        **_fitted(template.fitted),
    }


def _fitted(cases: tuple[str, ...]) -> dict[str, list[str]]:
    """Left out where there are none, so that texts of before there was such a thing have the digests that they had."""
    return {"fitted": list(cases)} if cases else {}


def _written(value: object) -> bytes:
    try:
        return canonical(value)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise ValueError(f"a template says what JSON cannot: {error}") from error


def _said(part: Part) -> Message:
    return {"placeholder": HISTORY} if isinstance(part, Placeholder) else {"role": part.role, "content": part.content}


def _parts(said: list[Message]) -> tuple[Part, ...]:
    return tuple(Placeholder() if "placeholder" in part else Text(part["role"], part["content"]) for part in said)


def _one_form(variant: Variant) -> Variant:
    messages = None if variant.messages is None else tuple(map(_one_ending, variant.messages))
    return Variant(messages, folded(variant.parameters), _each_once(variant.fitted))


def _each_once(cases: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({*cases}))


def _one_ending(part: Part) -> Part:
    return Text(part.role, _lines(part.content)) if isinstance(part, Text) else part


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
