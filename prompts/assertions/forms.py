"""Assertions about the form of an answer: JSON, JSON of a schema, calls of tools."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from prompts.assertions.kind import Assertion, Given, Kind, Verdict, a_text, not_evaluated, short
from prompts.schemas import SUITES, schema_of

MOST_STARTS = 200  # places in a text at which JSON is looked for; a text of brackets would take for ever
MOST_DETAIL_CHARACTERS = 500
TOO_MANY = object()


def _is_json(assertion: Assertion, given: Given) -> Verdict:
    try:
        value = orjson.loads(given.answer.text)
    except orjson.JSONDecodeError:
        return Verdict(False, "is not JSON")
    return _of_form(assertion.value, value, given.answer.text)


def _contains_json(assertion: Assertion, given: Given) -> Verdict:
    verdict = Verdict(False, "contains no JSON object or list")
    for value in _found(given.answer.text):
        if value is TOO_MANY:
            return not_evaluated(f"more than {MOST_STARTS} places in the answer where JSON could begin")
        verdict = _of_form(assertion.value, value, given.answer.text)
        if verdict.passed or not verdict.evaluated:
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
            value = None if schema is None else orjson.loads(call.arguments)
        except orjson.JSONDecodeError:
            verdict = Verdict(False, "is not JSON")
        else:
            verdict = _of_form(schema, value, call.arguments)
        if verdict.passed:
            return Verdict(True, f"calls {short(name)}")
        if not verdict.evaluated:
            return verdict
        verdict = replace(verdict, reason=f"calls {short(name)}, but what with {verdict.reason}")
    return verdict


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`rule`: the part of the schema that a value breaks, as a path in the schema. `detail` may quote the value."""

    rule: str
    detail: str = ""


def mismatch(schema: Any, value: Any, characters: int) -> Mismatch | None:
    """The first rule of *schema* that *value*, written in so many *characters*, breaks; None where it breaks none.

    Raises ValueError for a schema that is none, TimeoutError where nobody can tell in time.
    """
    found = schema_of(schema, SUITES)
    accepted = found.accepts(value, characters)
    if accepted is None:
        raise TimeoutError
    if accepted:
        return None
    for error in found.mistakes(value):
        where = "".join(f"/{part}" for part in error.instance_path)
        rule = "/".join(map(str, error.schema_path)) or "false"
        return Mismatch(rule, f"{where}: {error.message}".removeprefix(": ")[:MOST_DETAIL_CHARACTERS])
    return Mismatch("a rule")


def _of_form(schema: Any, value: Any, text: str) -> Verdict:
    """*text*: what *value* was read from, or was found in."""
    try:
        broken = None if schema is None else mismatch(schema, value, len(text))
    except TimeoutError:
        return not_evaluated("the schema is too much work for an answer of this length; simplify it")
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
    schema_of(value, SUITES)


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
