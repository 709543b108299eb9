"""Assertions about the form of an answer: JSON, JSON of a schema, calls of tools."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from prompts.assertions.kind import Assertion, Given, Kind, Verdict, a_text, not_evaluated, short
from prompts.schema import mismatch, validator

MOST_STARTS = 200  # places in a text at which JSON is looked for; a text of brackets would take for ever
TOO_MANY = object()


def _is_json(assertion: Assertion, given: Given) -> Verdict:
    try:
        value = orjson.loads(given.answer.text)
    except orjson.JSONDecodeError:
        return Verdict(False, "is not JSON")
    return _of_form(assertion.value, value)


def _contains_json(assertion: Assertion, given: Given) -> Verdict:
    verdict = Verdict(False, "contains no JSON object or list")
    for value in _found(given.answer.text):
        if value is TOO_MANY:
            return not_evaluated(f"more than {MOST_STARTS} places in the answer where JSON could begin")
        verdict = _of_form(assertion.value, value)
        if verdict.passed:
            break
    return verdict


def _calls_tool(assertion: Assertion, given: Given) -> Verdict:
    wanted = assertion.value if isinstance(assertion.value, dict) else {"name": assertion.value}
    name, schema = wanted["name"], wanted.get("arguments")
    verdict = Verdict(False, f"does not call {short(name)}")
    for call in given.answer.tool_calls:
        if call.name != name:
            continue
        try:
            verdict = _of_form(schema, None if schema is None else orjson.loads(call.arguments))
        except orjson.JSONDecodeError:
            verdict = Verdict(False, "is not JSON")
        if verdict.passed:
            return Verdict(True, f"calls {short(name)}")
        verdict = replace(verdict, reason=f"calls {short(name)}, but what with {verdict.reason}")
    return verdict


def _of_form(schema: Any, value: Any) -> Verdict:
    broken = None if schema is None else mismatch(schema, value)
    if broken is None:
        return Verdict(True, "is JSON of that form")
    return Verdict(False, f"is JSON that breaks {broken.rule} of the schema", detail=broken.detail)


def _found(text: str) -> Iterator[Any]:
    """The JSON objects and lists in *text*, the outer ones only; TOO_MANY last where it did not look to the end."""
    decoder = json.JSONDecoder(parse_constant=_refused)
    place = 0
    for _ in range(MOST_STARTS):
        starts = [at for at in (text.find("{", place), text.find("[", place)) if at >= 0]
        if not starts:
            return
        place = min(starts)
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
        else:
            yield value
    yield TOO_MANY


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _schema(value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError("needs a JSON Schema as value")
    validator(value)


def _schema_or_nothing(value: Any) -> None:
    if value is not None:
        _schema(value)


def _tool(value: Any) -> None:
    if not isinstance(value, dict):
        return a_text(value)
    if not isinstance(value.get("name"), str) or set(value) - {"name", "arguments"}:
        raise ValueError("needs the tool's name as value, or {name, arguments: a JSON Schema}")
    _schema_or_nothing(value.get("arguments"))


KINDS: dict[str, Kind] = {
    "is-json": Kind(_schema_or_nothing, _is_json),
    "json-schema": Kind(_schema, _is_json),
    "contains-json": Kind(_schema_or_nothing, _contains_json),
    "calls-tool": Kind(_tool, _calls_tool),
}
