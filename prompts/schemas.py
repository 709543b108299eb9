"""JSON Schemas of callers, compiled once and never run away with: no network, no backtracking, a bound on their work.

A schema says "valid" of a value at a cost that is its author's choice: references that fork double it with each level.
So it is measured first (`_steps`), and one that asks for too much, or for what is not measured here, is no schema.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

SCHEMA_LIMIT_BYTES = 64 * 1024  # as JSON
TEXT_LIMIT_CHARACTERS = 64 * 1024  # of a value that is validated; 16,000 tokens
KEPT_SCHEMAS = 64  # the ones used last
PATTERNS_LIMIT = 16
PATTERN_LIMIT_BYTES = 64 * 1024  # compiled, each; an e-mail address or a UUID takes less than a quarter
NESTING_LIMIT = 64  # of schemas in schemas, references followed; a validator's stack grows with it
STEPS_LIMIT = 10_000_000  # steps of a schema times characters of a value; the worst that was found took 0.05 s

IN_PLACE_ONE = ("not", "if", "then", "else")
IN_PLACE_LIST = ("allOf", "anyOf", "oneOf")
NAMED = ("dependentSchemas", "dependencies", "patternProperties")
INNER_ONE = ("contains", "additionalItems", "additionalProperties", "propertyNames")
REFERENCE = "$ref"
# What makes a reference mean something else than a path in this document, or is validated in two passes.
NOT_MEASURED = frozenset(
    {
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveAnchor",
        "$recursiveRef",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)


@dataclass(frozen=True, slots=True)
class Schema:
    """`steps`: how many schemas a validator looks at for one part of a value, at most."""

    steps: int
    _accepts: Callable[[Any], bool]

    def accepts(self, value: Any, characters: int) -> bool | None:
        """Whether *value*, which was written in so many *characters*, is valid; None where that would take too long."""
        if characters > TEXT_LIMIT_CHARACTERS or self.steps * characters > STEPS_LIMIT:
            return None
        try:
            return self._accepts(value)
        except (ValueError, TypeError, RecursionError):  # a value that is nested too deeply for it
            return None


def compiled(schema: object) -> Schema | None:
    """None for what is no schema, too large, or more work than is done here."""
    if not isinstance(schema, dict | bool):
        return None
    try:
        written = orjson.dumps(schema)
    except (orjson.JSONEncodeError, RecursionError):
        return None
    return _compiled(written) if len(written) <= SCHEMA_LIMIT_BYTES else None


@lru_cache(maxsize=KEPT_SCHEMAS)
def _compiled(written: bytes) -> Schema | None:
    import jsonschema_rs  # 9 MB, for requests that have a schema

    schema = orjson.loads(written)
    try:  # what a keyword holds instead of a schema, the walk and the validator find out each in their own way
        steps = _Measured(schema).steps(schema)
        patterns = jsonschema_rs.RegexOptions(size_limit=PATTERN_LIMIT_BYTES, dfa_size_limit=PATTERN_LIMIT_BYTES)
        validator = jsonschema_rs.validator_for(schema, offline=True, validate_formats=False, pattern_options=patterns)
    except (ValueError, TypeError, AttributeError, jsonschema_rs.ReferencingError):
        return None
    return Schema(steps, validator.is_valid)


class _Unmeasured(ValueError):
    """It has what is not followed here, or too much of it."""


class _Measured:
    """Walks a schema as a validator would, each of its parts once."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[int, int] = {}
        self._above: set[int] = set()
        self._patterns = 0

    def steps(self, schema: Any) -> int:
        """Of *schema* and all that may be looked at beneath it, for one part of a value. Raises _Unmeasured.

        A schema that refers to itself counts once: the validator keeps what it has found of such ones by place
        (measured with 0.60: both ways of a fork, twenty levels deep, in ten microseconds).
        """
        if isinstance(schema, bool) or id(schema) in self._above:
            return 1
        if not isinstance(schema, dict) or not NOT_MEASURED.isdisjoint(schema):
            raise _Unmeasured
        if "$id" in schema and schema is not self._root:
            raise _Unmeasured
        if id(schema) not in self._known:
            if len(self._above) >= NESTING_LIMIT:
                raise _Unmeasured
            self._above.add(id(schema))
            self._known[id(schema)] = self._own(schema) + self._beneath(schema)
            self._above.discard(id(schema))
            if self._known[id(schema)] > STEPS_LIMIT:
                raise _Unmeasured
        return self._known[id(schema)]

    def _beneath(self, schema: Mapping[str, Any]) -> int:
        """Of properties and places in a list one at most is that of a part; of the others each may be."""
        items = schema.get("items", True)
        named, placed = schema.get("properties", {}).values(), schema.get("prefixItems", ())
        told_apart = (named, placed, items if isinstance(items, list) else (items,))
        steps = sum(max(map(self.steps, schemas), default=0) for schemas in told_apart)
        return steps + sum(map(self.steps, self._others(schema)))

    def _own(self, schema: Mapping[str, Any]) -> int:
        """Keywords, and what a value is compared with piece by piece."""
        named = schema.get("patternProperties")
        self._patterns += ("pattern" in schema) + (len(named) if isinstance(named, dict) else 0)
        if self._patterns > PATTERNS_LIMIT:
            raise _Unmeasured
        names = sum(len(schema.get(name, ())) for name in ("required", "properties"))
        return 1 + len(schema) + names + sum(map(_pieces, (*schema.get("enum", ()), schema.get("const"))))

    def _others(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        if REFERENCE in schema:
            yield self._referred(schema[REFERENCE])
        for name in (*IN_PLACE_ONE, *INNER_ONE):
            if name in schema:
                yield schema[name]
        for name in IN_PLACE_LIST:
            yield from schema.get(name) or ()
        for name in NAMED:
            yield from (one for one in (schema.get(name) or {}).values() if not isinstance(one, list))

    def _referred(self, reference: object) -> Any:
        """What a path in this document leads to. Raises _Unmeasured."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _Unmeasured
        found = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise _Unmeasured
            found = found[name]
        return found


def _pieces(value: Any) -> int:
    """Of a value that another is compared with."""
    return len(orjson.dumps(value)) if isinstance(value, list | dict) else 1
