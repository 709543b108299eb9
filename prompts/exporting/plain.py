"""The messages of a template for tools that know variables and little else: partials in their place, the rest told."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prompts.partials import includes
from prompts.tags import tags
from prompts.template import Template, Text

VARIABLE = re.compile(r"\{\{-?\s*([A-Za-z_][A-Za-z0-9_]*)\s*-?\}\}")
BRACE = re.compile(r"\{\{\s*([\"'])\{\1\s*\}\}")
MOST_LEVELS = 16  # of partials in each other; `check` refuses circles
SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Exported:
    """`dropped`: what the format has no place for."""

    text: str
    dropped: tuple[str, ...]


def messages_of(template: Template, tier: str | None, dropped: list[str]) -> Iterator[tuple[str, str]]:
    """Role and text, with partials in them."""
    for part in template.parts(template.variant(tier)):
        if isinstance(part, Text):
            yield part.role, with_partials(part.content, template)
        else:
            dropped.append("placeholder: history: a client's own messages have no place there")
    if made_from := template.fitted_on(tier):
        dropped.append(f"fitted: nothing says there that {len(made_from)} cases prove nothing of a text made from them")


def with_partials(text: str, template: Template, level: int = 0) -> str:
    """As the engine would put them: without the line ending at the end of each."""
    for include in reversed(list(includes(text))):
        partial = template.partials.get(include.name or "")
        if partial is not None and level < MOST_LEVELS:
            end = text.index("%}", include.offset) + 2
            inner = with_partials(partial.removesuffix("\n"), template, level + 1)
            text = text[: include.offset] + inner + text[end:]
    return text


def logic(text: str) -> Iterator[str]:
    """The tags of *text* that are more than a variable or a brace."""
    for tag in tags(text):
        if not VARIABLE.fullmatch(tag.text) and not BRACE.fullmatch(tag.text):
            yield tag.text if len(tag.text) <= SHOWN_CHARACTERS else f"{tag.text[:SHOWN_CHARACTERS]}..."


def opened(text: str) -> str:
    """What `importing.text.closed` has done, undone: the line ending that the engine takes."""
    return text.removesuffix("\n")
