"""A text with `{{ name }}` in it, as most tools write variables, as a template of ours that says the same."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from prompts.check import RESERVED
from prompts.variables import NAME

VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
LOGIC = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)
BRACE = re.compile(r"\{(?=[{%#])|\{\Z")
SHOWN_CHARACTERS = 60
MOST_TOLD = 20  # odd tags of one prompt


@dataclass(slots=True)
class Names:
    """The variables of one prompt: what they are called there, and here. `notes`: what is to be told."""

    ours: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, theirs: str) -> str:
        """Letters, digits and _, no word of the template language, and no two of one name."""
        if theirs in self.ours:
            return self.ours[theirs]
        name = re.sub(r"[^A-Za-z0-9_]", "_", theirs)[:60] or "value"
        if not NAME.fullmatch(name) or name.lower() in RESERVED:
            name = f"v_{name}"
        while name in self.ours.values():
            name += "_"
        self.ours[theirs] = name
        if name != theirs:
            self.notes.append(f"the variable {theirs!r} is called {name} here; callers must say so")
        return name

    def odd(self, tag: str, why: str) -> None:
        if len(self.notes) < MOST_TOLD:
            shown = tag if len(tag) <= SHOWN_CHARACTERS else f"{tag[:SHOWN_CHARACTERS]}..."
            self.notes.append(f"{shown!r} {why}")


def template_text(text: str, names: Names, *, has_logic: bool = False, words: Collection[str] = frozenset()) -> str:
    """*text* with its plain variables as ours. *has_logic*: `{% %}` and `{# #}` mean something where it comes from.
    *words*: what is no variable there, though it looks like one.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if has_logic:
        for tag in LOGIC.finditer(text):
            names.odd(tag[0], "is an instruction there and stands as text here; write it anew")
    parts, end = [], 0
    for found in VARIABLE.finditer(text):
        name = found[1].strip()
        if not PLAIN.fullmatch(name) or name in words:
            names.odd(found[0], "is no plain variable; it stands as text")
            continue
        parts += [literal(text[end : found.start()]), f"{{{{ {names.of(name)} }}}}"]
        end = found.end()
    parts.append(literal(text[end:]))
    return closed("".join(parts))


def literal(text: str) -> str:
    """What renders to *text*, before whatever follows."""
    return BRACE.sub('{{ "{" }}', text)


def closed(template: str) -> str:
    """The engine takes one line ending from the end of a text."""
    return f"{template}\n" if template.endswith("\n") else template
