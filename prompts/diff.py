"""What is another between two versions of a template: message by message, and in tokens. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from itertools import zip_longest
from typing import Any

import orjson

from prompts.render import RenderFailed, compiled
from prompts.sample import sample_values
from prompts.template import BASE, Part, Placeholder, Template, Variant

CONTEXT_LINES = 2


@dataclass(frozen=True, slots=True)
class Change:
    """`what`: `inputs`, `partial voice`, or of a variant, `small: message 1 (user)`. `lines`: as `diff -u` has them."""

    what: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"@@ {self.what}", *self.lines))


def diff(old: Template, new: Template) -> list[Change]:
    """In the order of a template's file; empty where both are one version."""
    changes = [change for name in ("id", "description", "model") if (change := _text(name, *_both(old, new, name)))]
    for name in ("parameters", "inputs", "response_format", "locked", "client_system", "fitted"):
        changes += _json(name, *_both(old, new, name))
    changes += _json("routing", _routing(old), _routing(new))
    changes += _messages(BASE, old.messages, new.messages)
    for tier in sorted(old.variants.keys() | new.variants.keys()):
        one, two = old.variants.get(tier, Variant()), new.variants.get(tier, Variant())
        changes += _json(f"{tier}: parameters", one.parameters, two.parameters)
        changes += _json(f"{tier}: fitted", one.fitted, two.fitted)
        changes += _messages(tier, one.messages or (), two.messages or ())
    for name in sorted(old.partials.keys() | new.partials.keys()):
        changes += [c for c in [_text(f"partial {name}", old.partials.get(name, ""), new.partials.get(name, ""))] if c]
    return changes


def token_delta(old: Template, new: Template, tier: str | None, count: Callable[[str], int]) -> int | None:
    """How many more tokens *new* says to *tier* than *old*, for the same made-up variables; None where that fails.

    *count*: the tokens of a text, for the tier's model. What its chat template puts around a message is not counted.
    """
    try:
        return _tokens(new, tier, count) - _tokens(old, tier, count)
    except RenderFailed:
        return None


def _tokens(template: Template, tier: str | None, count: Callable[[str], int]) -> int:
    said = compiled(template).messages(template.variant(tier), sample_values(template), ())
    return sum(count(str(message["content"])) for message in said)


def _both(old: Template, new: Template, name: str) -> tuple[Any, Any]:
    return getattr(old, name), getattr(new, name)


def _messages(variant: str, old: Sequence[Part], new: Sequence[Part]) -> Iterator[Change]:
    """Messages that both have, word for word, are paired first, and those between them in their order."""
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for place, (one, two) in enumerate(zip_longest(old[a:b], new[c:d])):
            number = c + place if two is not None else a + place
            change = _text(f"{variant}: message {number} ({_name(two or one)})", _said(one), _said(two))
            if change:
                yield change


def _name(part: Part | None) -> str:
    return "placeholder" if part is None or isinstance(part, Placeholder) else part.role


def _said(part: Part | None) -> str:
    """With its role on a line of its own, as that may be all that is another."""
    if part is None:
        return ""
    return "placeholder: history" if isinstance(part, Placeholder) else f"role: {part.role}\n{part.content}"


def _routing(template: Template) -> Mapping[str, Any]:
    routing = template.routing
    return {"bar": routing.bar, "tiers": routing.tiers, "stratify_by": routing.stratify_by, "hold": routing.hold}


def _json(what: str, old: Any, new: Any) -> list[Change]:
    change = _text(what, _pretty(old), _pretty(new))
    return [change] if change else []


def _pretty(value: Any) -> str:
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    return orjson.dumps(sorted(value) if isinstance(value, frozenset) else value, option=options).decode()


def _text(what: str, old: str, new: str) -> Change | None:
    lines = [*unified_diff(old.splitlines(), new.splitlines(), n=CONTEXT_LINES, lineterm="")][2:]  # two name the files
    return Change(what, tuple(lines)) if lines else None
