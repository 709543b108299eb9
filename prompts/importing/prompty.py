"""Microsoft's Prompty: YAML in front, then messages, each after a line `system:`, `user:` or `assistant:`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prompts.check import PARAMETERS
from prompts.importing.front import parted
from prompts.importing.made import Imported, Making, rest
from prompts.importing.text import template_text

KNOWN = frozenset(("name", "description", "authors", "version", "model", "inputs", "sample", "template"))
ROLE = re.compile(r"^[ \t]*#?[ \t]*(system|developer|user|assistant)[ \t]*:[ \t]*$", re.MULTILINE)


def read(text: str, name: str) -> Sequence[Imported]:
    said, body = parted(text, name)
    made = Making(str(said.get("name") or name.removesuffix(".prompty")))
    made.description = str(said.get("description") or "")
    pieces = ROLE.split(body)
    if pieces[0].strip():
        made.say("system", template_text(pieces[0].strip("\n"), made.names, has_logic=True))
    for role, content in zip(pieces[1::2], pieces[2::2], strict=True):
        made.say(role, template_text(content.strip("\n"), made.names, has_logic=True))
    _model(made, said.get("model"))
    for key in ("inputs", "sample"):
        if said.get(key):
            made.drop(key, "are examples there; make them a test, or types in inputs")
    rest(made, said, KNOWN)
    return [made.done()]


def _model(made: Making, said: Any) -> None:
    if not isinstance(said, Mapping):
        return
    parameters = said.get("parameters") or said.get("options")
    for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
        if name in PARAMETERS:
            made.parameter(str(name), value)
        elif name == "response_format" and isinstance(value, Mapping):
            made.response_format = dict(value)
        else:
            made.drop(f"model.parameters.{name}", "is no parameter that is known here")
    for key in said:
        if key not in ("parameters", "options"):
            made.drop(f"model.{key}", "the router decides here which model answers")
