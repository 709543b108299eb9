"""Patterns and JSON Schemas from files, such as no answer can make them run for long. Imports what runs them lazily.

Patterns run in Rust's `regex`, by way of jsonschema_rs: time linear in the text, no lookaround, no backreference. The
standard library's backtrack: `(a+)+$` takes years on forty letters. Their syntax is that of JSON Schema: `\\d`, `\\w`
and `\\s` mean ASCII only; `(?i)`, `(?m)` and `(?s)` at the beginning work.

A schema may refer to itself by `#/...` only, and not in a circle: sixty definitions that each name the one before twice
would take 2^60 steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from prompts.canonical import canonical

if TYPE_CHECKING:
    from jsonschema_rs import Validator

MOST_PATTERN_CHARACTERS = 1_000
MOST_COMPILED_BYTES = 256 * 1024  # of a pattern; on 100,000 characters the worst we found takes 3 s
MOST_CACHE_BYTES = 2 * 1024 * 1024  # of a pattern while it runs
MOST_STEPS = 2_000  # subschemas, each counted as often as it is referred to
PATTERN_STEPS = 50  # what a pattern counts as
KEPT = 16  # compiled ones
MOST_DETAIL_CHARACTERS = 500

_OF_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"const", "enum", "default", "examples", "required", "dependentRequired"})
_ELSEWHERE = ("$dynamicRef", "$recursiveRef")


def matcher(pattern: str) -> "Validator":
    """What says by `is_valid(text)` whether *pattern* occurs in it. Raises ValueError."""
    if len(pattern) > MOST_PATTERN_CHARACTERS:
        raise ValueError(f"is a pattern of more than {MOST_PATTERN_CHARACTERS:,} characters")
    try:
        return _compiled(canonical({"type": "string", "pattern": pattern}))
    except ValueError:
        raise ValueError(
            "is not a pattern that runs in linear time: no lookaround, no backreference, and nothing that takes more "
            f"than {MOST_COMPILED_BYTES // 1024} KiB compiled, which large repetitions do (Rust's regex syntax)"
        ) from None


def validator(schema: Any) -> "Validator":
    """What says by `is_valid(value)` whether it has the form *schema*. Raises ValueError for what is no such schema, or
    one that could run for long.
    """
    if not isinstance(schema, dict | bool):
        raise ValueError("a JSON Schema is a mapping")
    try:
        steps = _Steps(schema).of(schema)
    except RecursionError:
        raise ValueError("the schema is nested too deeply") from None
    if steps > MOST_STEPS:
        raise ValueError(f"the schema stands for more than {MOST_STEPS:,} subschemas once its $refs are followed")
    return _compiled(canonical(schema))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`rule`: the part of the schema that a value breaks, as a path in the schema. `detail` may quote the value."""

    rule: str
    detail: str


def mismatch(schema: Any, value: Any) -> Mismatch | None:
    """The first rule of *schema* that *value* breaks; None where it breaks none."""
    import jsonschema_rs

    try:
        validator(schema).validate(value)
    except jsonschema_rs.ValidationError as error:
        where = "".join(f"/{part}" for part in error.instance_path)
        rule = "/".join(map(str, error.schema_path)) or "false"
        return Mismatch(rule, f"{where}: {error.message}".removeprefix(": ")[:MOST_DETAIL_CHARACTERS])
    return None


@lru_cache(maxsize=KEPT)
def _compiled(schema: bytes) -> "Validator":
    import jsonschema_rs

    limits = jsonschema_rs.RegexOptions(size_limit=MOST_COMPILED_BYTES, dfa_size_limit=MOST_CACHE_BYTES)
    try:
        return jsonschema_rs.validator_for(orjson.loads(schema), offline=True, pattern_options=limits)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"is not a JSON Schema: {str(error).splitlines()[0][:200]}") from error


class _Steps:
    """Counts what validation may visit at one place of an answer."""

    def __init__(self, root: dict[str, Any] | bool) -> None:
        self._root = root
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, schema: Any) -> int:
        if not isinstance(schema, dict):
            return 1
        if id(schema) in self._known:
            return self._known[id(schema)]
        if id(schema) in self._open:
            raise ValueError("the schema refers to itself in a circle, which is not supported")
        self._open.add(id(schema))
        steps = 1 + sum(self._at(schema, key, inner) for key, inner in schema.items())
        self._open.discard(id(schema))
        self._known[id(schema)] = steps = min(steps, MOST_STEPS + 1)
        return steps

    def _at(self, schema: Mapping[str, Any], key: str, inner: Any) -> int:
        if key in _ELSEWHERE or (key == "$id" and schema is not self._root):
            raise ValueError(f"{key} is not supported in a schema here")
        if key == "$ref" and isinstance(inner, str):
            return self.of(self._named(inner))
        if key == "pattern":
            return PATTERN_STEPS
        if key in _DATA:
            return 0
        if key in _OF_SCHEMAS and isinstance(inner, dict):
            extra = PATTERN_STEPS * len(inner) if key == "patternProperties" else 0
            return extra + sum(self.of(one) for one in inner.values())
        if isinstance(inner, list):
            return sum(self.of(one) for one in inner)
        return self.of(inner) if isinstance(inner, dict) else 0

    def _named(self, reference: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise ValueError(f"refers to {reference[:80]!r}; a schema may refer to its own parts only, by #/...")
        part: Any = self._root
        for name in reference.removeprefix("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(part, dict) and name in part:
                part = part[name]
            elif isinstance(part, list) and name.isdecimal() and int(name) < len(part):
                part = part[int(name)]
            else:
                raise ValueError(f"refers to {reference[:80]!r}, which it does not have")
        return part
