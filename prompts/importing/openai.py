"""OpenAI's prompt objects: `{"id": "pmpt_...", "version": "2", "instructions", "messages", "variables", ...}`.

A file has one, or a list of them. The id stays the prompt's name, so that clients which send it need no change. Where
the object says `prompt_id` or `input` instead, as parts of that API do, it is read the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prompts.importing.made import Imported, ImportRefused, Making, content_text, json_of, mapping, rest
from prompts.importing.text import template_text

KNOWN = frozenset(
    [
        "id",
        "prompt_id",
        "object",
        "name",
        "description",
        "version",
        "is_default",
        "created_at",
        "model",
        "variables",
        "instructions",
        "messages",
        "input",
        "prompt",
        "tools",
        "text",
        "reasoning",
        "max_output_tokens",
    ]
)
PARAMETERS = ("temperature", "top_p", "tool_choice", "parallel_tool_calls", "top_logprobs", "service_tier")


def read(text: str, name: str) -> Sequence[Imported]:
    said = json_of(text)
    if isinstance(said, Mapping) and isinstance(said.get("data"), list):
        said = said["data"]
    objects = said if isinstance(said, list) else [said]
    if not objects:
        raise ImportRefused("has no prompt in it")
    return [_one(mapping(one, "a prompt"), name) for one in objects]


def _one(said: Mapping[str, Any], name: str) -> Imported:
    made = Making(str(said.get("id") or said.get("prompt_id") or said.get("name") or name))
    made.description = str(said.get("description") or said.get("name") or "")
    items: list[Any] = []
    for key in ("instructions", "messages", "input", "prompt"):
        value = said.get(key)
        role = "system" if key == "instructions" else "user"
        items += [{"role": role, "content": value}] if isinstance(value, str) else value or []
    for place, item in enumerate(items):
        _message(made, item, f"message {place}")
    _variables(made, said.get("variables"))
    _parameters(made, said)
    if "version" in said:
        made.drop(f"version {said['version']}", "versions are counted anew here")
    if said.get("model"):
        made.drop(f"model {said['model']}", "the router decides here; write model: into the file to name one")
    rest(made, said, KNOWN.union(PARAMETERS))
    return made.done()


def _message(made: Making, item: Any, where: str) -> None:
    if not isinstance(item, Mapping) or item.get("type", "message") != "message":
        made.drop(where, "is no message; it is left out")
        return
    made.say(item.get("role"), template_text(content_text(made, item.get("content"), where), made.names))


def _variables(made: Making, said: Any) -> None:
    """A text given for a variable is what it has where a request says nothing."""
    if isinstance(said, list):
        said = {one["name"]: one for one in said if isinstance(one, Mapping) and isinstance(one.get("name"), str)}
    for name, value in (said or {}).items() if isinstance(said, Mapping | None) else ():
        if name not in made.names.ours:
            made.drop(f"variable {name!r}", "no message reads it")
            continue
        given = value.get("default", value.get("text")) if isinstance(value, Mapping) else value
        if isinstance(given, str):
            made.properties[made.names.of(name)] = {"type": "string", "default": given}


def _parameters(made: Making, said: Mapping[str, Any]) -> None:
    for name in PARAMETERS:
        made.parameter(name, said.get(name))
    made.parameter("max_tokens", said.get("max_output_tokens"))
    reasoning = said.get("reasoning")
    if isinstance(reasoning, Mapping):
        made.parameter("reasoning_effort", reasoning.get("effort"))
        for key in reasoning:
            if key != "effort" and reasoning[key] is not None:
                made.drop(f"reasoning.{key}", "has no place in a template")
    text = said.get("text")
    if isinstance(text, Mapping):
        made.parameter("verbosity", text.get("verbosity"))
        made.response_format = _format(made, text.get("format"))
    tools = [tool for tool in map(lambda one: _tool(made, one), said.get("tools") or ()) if tool]
    made.parameter("tools", tools or None)


def _format(made: Making, said: Any) -> dict[str, Any] | None:
    match said:
        case {"type": "json_schema", "schema": Mapping()}:
            inner = {key: said[key] for key in ("name", "description", "strict", "schema") if said.get(key) is not None}
            return {"type": "json_schema", "json_schema": {"name": "answer", **inner}}
        case {"type": "json_object" | "text" as kind}:
            return {"type": kind}
        case None:
            return None
    made.drop("text.format", "is no form that is known here")
    return None


def _tool(made: Making, said: Any) -> dict[str, Any] | None:
    if not isinstance(said, Mapping) or said.get("type") != "function" or not isinstance(said.get("name"), str):
        kind = said.get("type") if isinstance(said, Mapping) else type(said).__name__
        made.drop(f"tool {kind}", "only functions can be carried; that one runs at OpenAI")
        return None
    keys = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: said[key] for key in keys if said.get(key) is not None}}
