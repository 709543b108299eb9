"""Reading a JSON object that a client wrote: the value, or an error that names the parameter. Knows no protocol."""

from collections.abc import Collection
from typing import Any, TypeVar

import orjson

from gateway.errors import InvalidRequest

T = TypeVar("T")

_NAMES = {str: "a string", bool: "true or false", int: "an integer", dict: "an object", list: "an array"}
_SHOWN_CHARACTERS = 60  # of a client's own value in an error
_LEVELS_AROUND = 50  # orjson writes 254 levels; an answer puts a few around what it repeats of the request


class Fields:
    """A JSON object and where it stands in the request, such as `input[2].content[0]`. A null counts as absent."""

    __slots__ = ("_value", "path")

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise InvalidRequest(f"{path or 'the request body'} must be an object", param=path or None)
        self._value = value
        self.path = path

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, why: str) -> InvalidRequest:
        return InvalidRequest(f"{self.at(key)} {why}", param=self.at(key))

    def raw(self, key: str) -> Any:
        return self._value.get(key)

    def optional(self, key: str, kind: type[T]) -> T | None:
        value = self._value.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(key, f"must be {_NAMES[kind]}")
        return value

    def required(self, key: str, kind: type[T]) -> T:
        value = self.optional(key, kind)
        if value is None:
            raise self.wrong(key, "is required")
        return value

    def count(self, key: str, least: int, most: int | None = None) -> int | None:
        value = self.optional(key, int)
        if value is not None and (value < least or (most is not None and value > most)):
            raise self.wrong(key, f"must be at least {least}" + ("" if most is None else f" and at most {most}"))
        return value

    def number(self, key: str, least: float, most: float) -> float | None:
        value = self._value.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.wrong(key, f"must be a number from {least:g} to {most:g}")
        return value

    def one_of(self, key: str, allowed: Collection[str]) -> str | None:
        value = self.optional(key, str)
        if value is not None and value not in allowed:
            raise self.wrong(key, f"must be one of {', '.join(allowed)}; not {value[:_SHOWN_CHARACTERS]!r}")
        return value

    def kind(self, allowed: Collection[str]) -> str:
        """The required `type`, which must be one that can be served here."""
        value = self.required("type", str)
        if value not in allowed:
            shown = value[:_SHOWN_CHARACTERS]
            raise self.wrong("type", f"{shown!r} is not available here; available: {', '.join(allowed)}")
        return value

    def object(self, key: str) -> "Fields | None":
        return None if self._value.get(key) is None else Fields(self._value[key], self.at(key))

    def objects(self, key: str) -> "list[Fields]":
        """The objects of an array; none where it is absent."""
        return objects(self.optional(key, list) or [], self.at(key))


def objects(values: list[Any], path: str) -> list[Fields]:
    return [Fields(value, f"{path}[{place}]") for place, value in enumerate(values)]


def given(**values: Any) -> dict[str, Any]:
    """An object of those values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def refuse_too_deep(body: Any) -> None:
    """Raises InvalidRequest for what could be read but not be written again, a few levels deeper, in an answer."""
    wrapped = body
    for _ in range(_LEVELS_AROUND):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("the request body is nested too deeply: at most 200 levels") from error
