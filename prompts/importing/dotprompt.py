"""Google's dotprompt: YAML in front, Handlebars behind. Variables, `{{role}}`, `{{history}}` and picoschema are
carried; helpers (`#if`, `#each`, partials, media) are told and stand as text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prompts.importing.front import parted
from prompts.importing.made import Imported, Making, rest
from prompts.importing.text import template_text

KNOWN = frozenset(("name", "description", "model", "config", "input", "output", "variant"))
MARK = re.compile(r"\{\{\s*(?:role\s+[\"'](?P<role>[a-z]+)[\"']|(?P<history>history))\s*\}\}")
WORDS = frozenset(("else", "this"))  # of the language; no variables
ROLES = {"model": "assistant"}
CONFIG = {"maxOutputTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "topK": "top_k"}
CONFIG |= {"stopSequences": "stop"}
TYPES = {"string": "string", "number": "number", "integer": "integer", "boolean": "boolean", "null": "null"}


def read(text: str, name: str) -> Sequence[Imported]:
    said, body = parted(text, name)
    made = Making(str(said.get("name") or name.removesuffix(".prompt")))
    made.description = str(said.get("description") or "")
    role, end = "user", 0
    marks = list(MARK.finditer(body))
    for mark in [*marks, None]:
        content = body[end : mark.start() if mark else len(body)].strip("\n")
        if content.strip():
            made.say(role, template_text(content, made.names, words=WORDS))
        if mark is None:
            break
        end = mark.end()
        if mark["history"]:
            made.messages.append(("placeholder", ""))
        else:
            role = ROLES.get(mark["role"], mark["role"])
    _input(made, said.get("input"))
    _config(made, said)
    rest(made, said, KNOWN)
    return [made.done()]


def _input(made: Making, said: Any) -> None:
    if not isinstance(said, Mapping):
        return
    schema, defaults = said.get("schema") or {}, said.get("default") or {}
    for key, kind in schema.items() if isinstance(schema, Mapping) else ():
        name = str(key).partition("(")[0].removesuffix("?")
        if name not in made.names.ours:
            made.drop(f"input.schema.{key}", "no message reads it")
            continue
        made.properties[made.names.of(name)] = _property(made, str(key), kind)
    for name, value in defaults.items() if isinstance(defaults, Mapping) else ():
        if name in made.names.ours:
            ours = made.names.of(name)
            made.properties[ours] = {**made.properties.get(ours, {"type": "string"}), "default": value}
    for key in said:
        if key not in ("schema", "default"):
            made.drop(f"input.{key}", "is not known here")


def _property(made: Making, key: str, kind: Any) -> dict[str, Any]:
    """Picoschema of one variable: `string, what it is`; what is deeper is taken for anything."""
    type_name, _, description = str(kind).partition(",")
    if not isinstance(kind, str) or type_name.strip() not in TYPES:
        made.drop(f"input.schema.{key}", "is more than a type; write its JSON Schema into inputs")
        return {}
    said: dict[str, Any] = {"type": TYPES[type_name.strip()]}
    if description.strip():
        said["description"] = description.strip()
    if key.endswith("?"):
        said["default"] = "" if said["type"] == "string" else None
        if said["type"] != "string":
            said["type"] = [said["type"], "null"]
    return said


def _config(made: Making, said: Mapping[str, Any]) -> None:
    made.take_parameters(said.get("config"), CONFIG, "config")
    output = said.get("output")
    if isinstance(output, Mapping):
        if output.get("format") == "json":
            made.response_format = {"type": "json_object"}
        if "schema" in output:
            made.drop("output.schema", "write it as JSON Schema into responseFormat")
    if said.get("model"):
        made.drop(f"model {said['model']}", "the router decides here; write model: into the file to name one")
