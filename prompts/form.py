"""The form that a request asks its answer to have, and whether a text keeps it: the one place that says so. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from prompts.schemas import Schema, compiled

JSON_FORMATS = frozenset({"json_object", "json_schema"})


@dataclass(frozen=True, slots=True)
class Form:
    """JSON, and valid by `schema` where one was asked for that can be looked at."""

    schema: Schema | None = None

    def keeps(self, text: str) -> bool:
        """Strictly: no fence around it, no NaN. What would take too long to validate need only be JSON."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        return self.schema is None or self.schema.accepts(value, len(text)) is not False


JSON = Form()


def wants_json(body: Mapping[str, Any]) -> bool:
    asked = body.get("response_format")
    return isinstance(asked, dict) and asked.get("type") in JSON_FORMATS


def form_of(body: Mapping[str, Any]) -> Form | None:
    """That of the text of an answer to a chat completion; None where any text will do."""
    if not wants_json(body):
        return None
    asked = body["response_format"].get("json_schema")
    schema = asked.get("schema") if isinstance(asked, dict) else None
    return JSON if schema is None else Form(compiled(schema))


def forms_of_calls(body: Mapping[str, Any]) -> Mapping[str, Form]:
    """Those of the arguments, by the names of the functions that a chat completion offers; empty where it asks of none
    that its be kept strictly.
    """
    functions = list(_functions(body))
    if not any(map(_is_strict, functions)):
        return {}
    return {f["name"]: Form(compiled(f.get("parameters", True))) if _is_strict(f) else JSON for f in functions}


def wants_form(body: Mapping[str, Any]) -> bool:
    """Of its text, or of a function's arguments."""
    return wants_json(body) or any(map(_is_strict, _functions(body)))


def _functions(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for tool in body.get("tools") or ():
        if tool.get("type") == "function" and isinstance(tool.get("function"), dict):
            yield tool["function"]


def _is_strict(function: Mapping[str, Any]) -> bool:
    return function.get("strict") is True
