"""One form for every JSON value, what hashes are made of; and whether a value read from YAML is JSON at all."""

import hashlib
from collections.abc import Mapping
from math import isfinite
from typing import Any

import orjson

from prompts.yamlfile import Loc, Problem, shown

MOST_LEVELS = 64  # of lists and mappings in each other
MOST_VALUES = 500_000  # in one file, aliases counted as often as they stand for something: a bomb is one that grows
SMALLEST, LARGEST = -(2**63), 2**64 - 1  # whole numbers that JSON readers agree on


def canonical(value: Any) -> bytes:
    """Equal for equal JSON: keys in order, no space. 1 and 1.0 differ, as a template writes them differently."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def folded(value: Any) -> Any:
    """A copy in which 1.0 is 1, for where nobody writes it out."""
    if isinstance(value, Mapping):
        return {key: folded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [folded(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def digest(value: Any) -> str:
    """64 hex digits over a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def not_json(value: Any, at: Loc = ()) -> Problem | None:
    """The first part of *value* that is not JSON, or that makes it too large; *at* is where it stands."""
    waiting: list[tuple[Loc, Any]] = [(at, value)]
    seen = 0
    while waiting:
        loc, part = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            return Problem(at, None, f"stands for more than {MOST_VALUES:,} values once its aliases are followed")
        if len(loc) - len(at) > MOST_LEVELS:
            return Problem(loc[: len(at) + 2], None, f"is more than {MOST_LEVELS} levels deep")
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, str):
                    return Problem((*loc, str(key)), shown(key), "a key must be a text; put it in quotes")
            waiting += [((*loc, key), inner) for key, inner in part.items()]
        elif isinstance(part, list):
            waiting += [((*loc, place), inner) for place, inner in enumerate(part)]
        elif problem := _no_leaf(part):
            return Problem(loc, shown(part), problem)
    return None


def _no_leaf(value: Any) -> str | None:
    match value:
        case None | bool():
            return None
        case int():
            return None if SMALLEST <= value <= LARGEST else "has more than 64 bits; put it in quotes"
        case float():
            return None if isfinite(value) else "is no number that JSON has"
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return "holds half of a character (a lone surrogate)"
            return None
        case _:
            return "is not JSON: a text, a number, true, false, null, a list or a mapping; a date needs quotes"
