"""JSON Schemas and patterns of others, compiled once and never run away with: no network, no backtracking, a bound.

A schema says "valid" of a value at a cost that is its author's choice: references that fork double it with each level.
So it is measured first (`_Walk`), and one that asks for too much, or for what is not measured here, is refused.
Patterns run in Rust's `regex`, in time linear in the text; as in JSON Schema, `\\d`, `\\w` and `\\s` mean ASCII.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from jsonschema_rs import RegexOptions, ValidationError, Validator

KEPT_SCHEMAS = 64  # the ones used last
NESTING_LIMIT = 64  # of schemas in schemas, references followed; a validator's stack grows with it
SIZE_AT_LEAST = 64  # characters of a value that a schema must be able to look at
TOLD_LIMIT = (
    20_000  # steps times parts of a value whose mistakes are told; each takes some 15 us, and all are found first
)
SHOWN_CHARACTERS = 200
PATTERN_CHARACTERS = 1000  # of one that stands by itself

# A step is the 5 ns that a keyword took for a character at worst. A pattern took 260 ns for each KiB of it, compiled.
PATTERN_STEPS_PER_KIB = 50
SLOW_STEPS = 16  # a format took 70 ns for a character, unique items 80
SLOW = frozenset({"format", "uniqueItems", "contentEncoding", "contentMediaType"})

IN_PLACE_ONE = ("not", "if", "then", "else")
IN_PLACE_LIST = ("allOf", "anyOf", "oneOf")
IN_PLACE_NAMED = ("dependentSchemas", "dependencies")
INNER_ONE = ("contains", "additionalItems", "additionalProperties", "propertyNames")
PATTERNS = "patternProperties"
REFERENCE = "$ref"
# What makes a reference mean something else than a path in this document, or is validated in two passes.
NOT_MEASURED = (
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "unevaluatedItems",
    "unevaluatedProperties",
)

Loc = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is taken from those who write schemas of one kind. `work`: steps of a schema times characters of a value.

    `formats`: whether they are held to; None leaves it to the schema's draft. `mask`: what mistakes call a value.
    """

    schema_bytes: int  # as JSON
    value_characters: int
    work: int
    patterns: int
    pattern_bytes: int  # compiled, each
    cache_bytes: int  # of a pattern while it runs
    formats: bool | None = None
    mask: str | None = None


# Anyone may send one with each request: 0.05 s. An e-mail address or a UUID takes less than 8 KiB.
CALLERS = Terms(64 * 1024, 64 * 1024, 10_000_000, 16, 64 * 1024, 64 * 1024, formats=False)
# The operator's own: 5 s, which is what the slowest template takes, too.
SUITES = Terms(1024 * 1024, 1024 * 1024, 1_000_000_000, 64, 256 * 1024, 2 * 1024 * 1024)
INPUTS = Terms(1024 * 1024, 2 * 1024 * 1024, 1_000_000_000, 64, 256 * 1024, 2 * 1024 * 1024, True, "the value")


class SchemaRefused(ValueError):
    """The reason and the remedy. `loc`: where in the schema."""

    def __init__(self, says: str, loc: Loc = ()) -> None:
        self.loc = loc
        super().__init__(says)


@dataclass(frozen=True, slots=True)
class Schema:
    """`steps`: how many schemas a validator looks at for one part of a value, at most. `circles`: in how many ways it
    comes to itself again for a part of that part.
    """

    steps: int
    circles: int
    _terms: Terms
    _validator: "Validator"

    def accepts(self, value: Any, characters: int) -> bool | None:
        """Whether *value*, which was written in so many *characters*, is valid; None where that would take too long."""
        if characters > self._terms.value_characters or self.steps * characters > self._terms.work:
            return None
        try:
            return self._validator.is_valid(value)
        except (ValueError, TypeError, RecursionError):  # a value that is nested too deeply for it
            return None

    def mistakes(self, value: Any) -> Iterator["ValidationError"]:
        """Of a value that is not accepted; none where finding them would take too long.

        To say yes or no the validator keeps what it has found and stops at the first mistake; to tell them it does
        neither (0.60: two ways around a circle, a value 18 levels deep: 36 s).
        """
        if self.circles > 1 or _more_parts(value, TOLD_LIMIT // self.steps):
            return iter(())
        return self._validator.iter_errors(value)


def compiled(schema: object) -> Schema | None:
    """A caller's. None for what is no schema, too large, or more work than is done here."""
    try:
        return schema_of(schema, CALLERS)
    except SchemaRefused:
        return None


def schema_of(schema: object, terms: Terms) -> Schema:
    """That of a file. Raises SchemaRefused."""
    if not isinstance(schema, dict | bool):
        raise SchemaRefused("is not a JSON Schema, which is a mapping; correct it")
    try:
        written = orjson.dumps(schema)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise SchemaRefused(f"is not a JSON Schema, or nested too deeply for one: {error}; correct it") from error
    if len(written) > terms.schema_bytes:
        raise SchemaRefused(f"has {len(written):,} bytes; {terms.schema_bytes:,} is the most")
    found = _compiled(written, terms)
    if isinstance(found, _Refusal):
        raise SchemaRefused(*found)
    return found


def matcher(pattern: str) -> Schema:
    """Accepts the texts in which a suite's *pattern* occurs. Raises SchemaRefused."""
    if len(pattern) > PATTERN_CHARACTERS:
        raise SchemaRefused(f"is a pattern of more than {PATTERN_CHARACTERS:,} characters")
    return schema_of({"pattern": pattern}, SUITES)


class _Refusal(NamedTuple):
    says: str
    loc: Loc = ()


@lru_cache(maxsize=KEPT_SCHEMAS)
def _compiled(written: bytes, terms: Terms) -> Schema | _Refusal:
    import jsonschema_rs  # 9 MB, for requests that have a schema

    schema = orjson.loads(written)
    cost = None
    try:
        cost = _Walk(schema, terms).measured()
    except SchemaRefused as error:
        return _Refusal(str(error), error.loc)
    except (TypeError, AttributeError):
        pass  # a keyword holds what it cannot; which one, the validator says
    try:
        validator = jsonschema_rs.validator_for(
            schema, offline=True, validate_formats=terms.formats, mask=terms.mask, pattern_options=_options(terms)
        )
    except jsonschema_rs.ValidationError as error:
        return _Refusal(f"is not a JSON Schema: {_first_line(error.message)}; correct it", tuple(error.instance_path))
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return _Refusal(f"is not a JSON Schema: {_first_line(str(error))}; correct it")
    if cost is None:
        return _Refusal("is not a JSON Schema of any draft; correct it")
    return Schema(cost.steps, cost.circles, terms, validator)


class _Cost(NamedTuple):
    """What one part of a value may take."""

    steps: int
    circles: int = 0


class _Walk:
    """Goes through a schema as a validator would, through each of its parts once. Raises SchemaRefused."""

    def __init__(self, root: Any, terms: Terms) -> None:
        self._root = root
        self._terms = terms
        self._known: dict[int, _Cost] = {}
        self._above: set[int] = set()
        self._in_place: dict[int, list[int]] = {}
        self._patterns = 0

    def measured(self) -> _Cost:
        cost = self._of(self._root, ())
        try:  # a validator that follows two such circles takes half a minute for `1` (0.60)
            TopologicalSorter(self._in_place).prepare()
        except CycleError:
            says = "refers to itself for the same value, in a circle; refer to it under properties or items alone"
            raise SchemaRefused(says) from None
        return self._bounded(_Cost(cost.steps * max(1, cost.circles), cost.circles), ())

    def _bounded(self, cost: _Cost, loc: Loc) -> _Cost:
        most = self._terms.work // SIZE_AT_LEAST
        if cost.steps > most:
            says = (
                f"stands for more than {most:,} steps once its $refs are followed and its patterns weighed; simplify it"
            )
            raise SchemaRefused(says, loc)
        return cost

    def _of(self, schema: Any, loc: Loc) -> _Cost:
        """Of *schema* and all that may be looked at beneath it."""
        if isinstance(schema, bool):
            return _Cost(1)
        if id(schema) in self._above:
            return _Cost(1, 1)
        if not isinstance(schema, dict):
            raise SchemaRefused("is not a JSON Schema, which is a mapping; correct it", loc)
        if id(schema) in self._known:
            return self._known[id(schema)]
        if unknown := next((name for name in NOT_MEASURED if name in schema), None):
            raise SchemaRefused(f"{unknown} is not supported here; take it out", loc)
        if schema is not self._root and _is_apart(schema):
            raise SchemaRefused("an $id within a schema is not supported here; take it out", loc)
        if len(self._above) >= NESTING_LIMIT:
            raise SchemaRefused(f"is nested more than {NESTING_LIMIT} deep; simplify it", loc)
        self._above.add(id(schema))
        cost = _sum((self._own(schema, loc), self._beneath(schema, loc)))
        self._above.discard(id(schema))
        self._known[id(schema)] = self._bounded(cost, loc)
        return cost

    def _own(self, schema: Mapping[str, Any], loc: Loc) -> _Cost:
        """Keywords, and what a value is compared with piece by piece."""
        names = sum(len(schema.get(name, ())) for name in ("required", "properties"))
        needed = [*schema.get("dependentRequired", {}).values(), *schema.get("dependencies", {}).values()]
        names += sum(len(one) for one in needed if isinstance(one, list))
        slow = SLOW_STEPS * len(SLOW.intersection(schema))
        pieces = sum(map(_pieces, (*schema.get("enum", ()), schema.get("const"))))
        patterns = [*([schema["pattern"]] if "pattern" in schema else ()), *schema.get(PATTERNS, ())]
        return _Cost(1 + len(schema) + names + slow + pieces + sum(self._weight(pattern, loc) for pattern in patterns))

    def _weight(self, pattern: object, loc: Loc) -> int:
        """Steps for a character: by what it compiles to, the only thing that says how many states it may be in."""
        from jsonschema_rs import Draft202012Validator, RegexOptions

        self._patterns += 1
        if self._patterns > self._terms.patterns:
            raise SchemaRefused(f"has more than {self._terms.patterns} patterns; take some out", loc)
        most = self._terms.pattern_bytes // 1024
        for kib in (1 << n for n in range(most.bit_length())):
            try:
                Draft202012Validator({"pattern": pattern}, pattern_options=RegexOptions(size_limit=kib * 1024))
            except ValueError:
                continue
            return PATTERN_STEPS_PER_KIB * kib
        says = (
            "has a pattern that does not run in linear time; no lookaround, no backreference, and nothing that takes "
            f"more than {most} KiB compiled, as large repetitions do: use maxLength for those (Rust's regex syntax)"
        )
        raise SchemaRefused(says, loc)

    def _beneath(self, schema: Mapping[str, Any], loc: Loc) -> _Cost:
        """Of properties and places in a list one at most is that of a part; of the others each may be."""
        items = schema.get("items", True)
        told_apart = (
            _named(schema, "properties"),
            _listed(schema, "prefixItems"),
            _listed(schema, "items") if isinstance(items, list) else [(("items",), items)],
        )
        alternatives = [[self._of(one, (*loc, *where)) for where, one in schemas] for schemas in told_apart]
        in_place = list(self._of_the_same(schema, loc))
        self._in_place[id(schema)] = [id(one) for _, one in in_place]
        others = [self._of(one, (*loc, *where)) for where, one in (*in_place, *_inner(schema))]
        return _sum((*map(_most, alternatives), *others))

    def _of_the_same(self, schema: Mapping[str, Any], loc: Loc) -> Iterator[tuple[Loc, Any]]:
        """The schemas that look at the very value that *schema* looks at."""
        if REFERENCE in schema:
            yield (REFERENCE,), self._referred(schema[REFERENCE], (*loc, REFERENCE))
        yield from (((name,), schema[name]) for name in IN_PLACE_ONE if name in schema)
        for name in IN_PLACE_LIST:
            yield from _listed(schema, name)
        for name in IN_PLACE_NAMED:
            yield from (pair for pair in _named(schema, name) if not isinstance(pair[1], list))

    def _referred(self, reference: object, loc: Loc) -> Any:
        """What a path in this document leads to."""
        shown = repr(reference)[:80]
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")) or "%" in reference:
            raise SchemaRefused(f"refers to {shown}; a schema may refer to its own parts only, by #/...", loc)
        found = self._root
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise SchemaRefused(f"refers to {shown}, which it does not have; correct it", loc)
            if isinstance(found, dict) and _is_apart(found):
                raise SchemaRefused(f"refers to {shown}, past an $id, which is not supported; take the $id out", loc)
        return found


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[Loc, Any]]:
    yield from (((name,), schema[name]) for name in INNER_ONE if name in schema)
    yield from _named(schema, PATTERNS)


def _named(schema: Mapping[str, Any], name: str) -> list[tuple[Loc, Any]]:
    return [((name, key), one) for key, one in schema.get(name, {}).items()]


def _listed(schema: Mapping[str, Any], name: str) -> list[tuple[Loc, Any]]:
    return [((name, place), one) for place, one in enumerate(schema.get(name, ()))]


def _sum(costs: Iterable[_Cost]) -> _Cost:
    steps, circles = zip(*costs, strict=True)
    return _Cost(sum(steps), sum(circles))


def _most(costs: list[_Cost]) -> _Cost:
    return _Cost(max((cost.steps for cost in costs), default=0), max((cost.circles for cost in costs), default=0))


def _is_apart(schema: Mapping[str, Any]) -> bool:
    """References in it may start from there; `id` is draft 4's."""
    return any(isinstance(schema.get(name), str) for name in ("$id", "id"))


def _pieces(value: Any) -> int:
    """Of a value that another is compared with."""
    return len(orjson.dumps(value)) if isinstance(value, list | dict) else 1


def _more_parts(value: Any, most: int) -> bool:
    waiting, seen = [value], 0
    while waiting and seen <= most:
        part = waiting.pop()
        seen += 1
        if isinstance(part, dict | list):
            waiting += part.values() if isinstance(part, dict) else part
    return seen > most


def _options(terms: Terms) -> "RegexOptions":
    from jsonschema_rs import RegexOptions

    return RegexOptions(size_limit=terms.pattern_bytes, dfa_size_limit=terms.cache_bytes)


def _first_line(text: str) -> str:
    return text.splitlines()[0][:SHOWN_CHARACTERS] if text else text
