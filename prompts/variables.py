"""What a template's variables may be, by its JSON Schema, and whether a caller's are that. Renders nothing.

What passes is JSON and nothing else: texts, numbers, truth values, lists and objects that were read anew from JSON, so
that no object of ours is ever in a template's hands.

OpenAI's `variables` are texts, or objects that say `input_text`. Such an object stands for its text; and where the
schema says that a variable is an integer, a number or a boolean, and nothing else, a text that is JSON for one ("3",
"0.5", "true") stands for it. No other text is read as anything but a text: a list comes as a list.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from prompts.schemas import INPUTS, Schema, SchemaRefused, schema_of
from prompts.yamlfile import one_line

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

MOST_BYTES = 1024 * 1024  # of all variables as JSON: a quarter of a million tokens
MOST_VARIABLES = 256
MOST_TOLD = 20  # mistakes
SHOWN_CHARACTERS = 80  # of a name or a list of choices
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
VOLATILITY, UNTRUSTED = "x-volatility", "x-untrusted"
JSON_ONLY = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
# JSON Schema's word for a type -> what a text must be read as to stand for one
READ_AS: Mapping[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float), "boolean": (bool,)}


class Volatility(StrEnum):
    """How often a variable has another value, the rarest first."""

    STATIC = "static"
    DAILY = "daily"
    PER_USER = "per_user"
    PER_REQUEST = "per_request"


@dataclass(frozen=True, slots=True)
class WrongVariable:
    """`pointer`: the JSON pointer of the variable, or of what is wrong in it; empty for all of them."""

    pointer: str
    says: str


class VariablesRefused(ValueError):
    """A caller's variables are not what the template's `inputs` say. Their values are not in it."""

    def __init__(self, prompt: str, problems: tuple[WrongVariable, ...]) -> None:
        self.prompt = prompt
        self.problems = problems
        super().__init__(f"{prompt}: " + "; ".join(f"{p.pointer or 'variables'}: {p.says}" for p in problems))


class InputsError(ValueError):
    """A template's `inputs` are no schema that variables can be held to. `loc`: where in them."""

    def __init__(self, loc: tuple[int | str, ...], remedy: str) -> None:
        self.loc = loc
        super().__init__(remedy)


def volatility(schema: object) -> Volatility:
    """Of the variable that *schema* describes: the most often, where it does not say."""
    said = schema.get(VOLATILITY) if isinstance(schema, Mapping) else None
    return Volatility(said) if isinstance(said, str) and said in set(Volatility) else Volatility.PER_REQUEST


def is_untrusted(schema: object) -> bool:
    return isinstance(schema, Mapping) and schema.get(UNTRUSTED) is True


def schema_for(inputs: Mapping[str, Any]) -> Schema:
    """Raises InputsError for what is no JSON Schema, refers to one that is elsewhere, or takes too much work."""
    try:
        return schema_of(dict(inputs), INPUTS)
    except SchemaRefused as error:
        raise InputsError(error.loc, one_line(str(error))) from error


class Inputs:
    """The `inputs` of one template, made ready. Raises InputsError."""

    __slots__ = ("_defaults", "_defaults_bytes", "_readable", "_schema", "names")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        properties: Mapping[str, Any] = schema.get("properties", {})
        self._schema = schema_for(schema)
        self.names = frozenset(properties)
        self._defaults = {
            name: orjson.dumps(said["default"])  # read anew each time, so that no two requests share a list
            for name, said in properties.items()
            if isinstance(said, dict) and "default" in said
        }
        self._defaults_bytes = sum(len(name) + len(default) for name, default in self._defaults.items())
        self._readable = {
            name: (said["type"], READ_AS.get(said["type"], ()))
            for name, said in properties.items()
            if isinstance(said, dict) and isinstance(said.get("type"), str)
        }

    def checked(self, prompt: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """*variables* as JSON, with defaults for those that are not there. Raises VariablesRefused, with all mistakes
        up to MOST_TOLD.
        """
        written = _as_json(prompt, variables)
        values: dict[str, Any] = self._as_said(orjson.loads(written))
        for name, default in self._defaults.items():
            if name not in values:
                values[name] = orjson.loads(default)
        accepted = self._schema.accepts(values, len(written) + self._defaults_bytes)
        if accepted is None:
            says = f"{len(written):,} bytes are more than this prompt's inputs can be checked on in time; send less"
            raise VariablesRefused(prompt, (WrongVariable("", says),))
        if not accepted:
            raise VariablesRefused(prompt, self._mistakes(values))
        return values

    def _mistakes(self, values: dict[str, Any]) -> tuple[WrongVariable, ...]:
        errors = self._schema.mistakes(values)
        told = list(islice((wrong for error in errors for wrong in _told(error, self.names)), MOST_TOLD + 1))
        if len(told) > MOST_TOLD:
            told[MOST_TOLD:] = [WrongVariable("", "there are more mistakes than these")]
        too_many = WrongVariable("", "are not what the inputs say, and hold too much to tell where; send less")
        return tuple(told) or (too_many,)

    def _as_said(self, values: dict[str, Any]) -> dict[str, Any]:
        """With the texts that stand for something else as what they stand for."""
        for name, (kind, types) in self._readable.items():
            value = values.get(name)
            if isinstance(value, dict) and value.get("type") == "input_text" and kind != "object":
                text = value.get("text")
                value = values[name] = text if isinstance(text, str) else value
            if types and isinstance(value, str):
                values[name] = _read(value, types)
        return values


def _read(text: str, types: tuple[type, ...]) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if type(value) in types else text


def _as_json(prompt: str, variables: Mapping[str, Any]) -> bytes:
    """Raises VariablesRefused for what is not JSON, or too much."""
    if len(variables) > MOST_VARIABLES:
        raise VariablesRefused(prompt, (WrongVariable("", f"there may be {MOST_VARIABLES} at most"),))
    try:
        written = orjson.dumps(variables, option=JSON_ONLY)
    except (orjson.JSONEncodeError, RecursionError):
        raise VariablesRefused(prompt, tuple(islice(_not_json(variables), MOST_TOLD))) from None
    if len(written) > MOST_BYTES:
        largest = max(variables, key=lambda name: len(orjson.dumps(variables[name], option=JSON_ONLY)))
        says = f"the variables have {len(written):,} bytes, and this is the largest; {MOST_BYTES:,} is the most"
        raise VariablesRefused(prompt, (WrongVariable(_pointer([largest]), says),))
    return written


def _not_json(variables: Mapping[str, Any]) -> Iterable[WrongVariable]:
    for name, value in variables.items():
        try:
            orjson.dumps({name: value}, option=JSON_ONLY)
        except (orjson.JSONEncodeError, RecursionError) as error:
            yield WrongVariable(_pointer([name]), f"is not JSON: {_short(str(error))}")


def _told(error: "ValidationError", names: frozenset[str]) -> Iterable[WrongVariable]:
    """One mistake in our words, for each variable that it is about."""
    kind, path = error.kind, error.instance_path
    said = kind.as_dict()
    match type(kind).__name__:
        case "Required":
            yield WrongVariable(_pointer([*path, said["property"]]), "is required, and not there")
        case "AdditionalProperties" if not path:
            for name in said["unexpected"]:
                yield WrongVariable(_pointer([name]), f"is no variable of this prompt{_nearest(name, names)}")
        case "AdditionalProperties":
            for name in said["unexpected"]:
                yield WrongVariable(_pointer([*path, name]), "is not permitted here")
        case "Type":
            yield WrongVariable(_pointer(path), f"{_found(error)} must be of type {' or '.join(said['types'])}")
        case "Enum":
            choices = _short(", ".join(orjson.dumps(option).decode() for option in said["options"]))
            yield WrongVariable(_pointer(path), f"{_found(error)} must be one of {choices}")
        case "MaxLength" | "MinLength" as name:
            end = "most" if name == "MaxLength" else "least"
            says = f"has {len(str(error.instance)):,} characters; {said['limit']:,} is the {end}"
            yield WrongVariable(_pointer(path), says)
        case _:
            yield WrongVariable(_pointer(path), _short(error.message))


def _found(error: "ValidationError") -> str:
    """What is there, by its type: a value may be anybody's own, and errors are shown and kept."""
    value = error.instance
    if isinstance(value, dict):
        is_file = value.get("type") in ("input_image", "input_file")
        return "an image or a file goes into a message of its own; this" if is_file else "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, bool):
        return "a truth value"
    return "null" if value is None else "a number"


def _nearest(name: str, names: frozenset[str]) -> str:
    near = difflib.get_close_matches(name[:SHOWN_CHARACTERS], sorted(names), n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; it has: {_short(', '.join(sorted(names)))}" if names else "; it has none"


def _pointer(path: Iterable[int | str]) -> str:
    """RFC 6901, of one line, its parts cut where they are long."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "".join(f"/{_short(part)}" for part in parts)


def _short(text: str) -> str:
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return one_line(cut)
