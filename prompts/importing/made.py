"""What an import makes: the files of one prompt, from the parts that every format has in some shape."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from prompts.canonical import not_json
from prompts.check import NO_PARAMETERS, ROLES
from prompts.folder import ENDING, TESTS
from prompts.importing.text import Names
from prompts.template import ID
from prompts.writing import yaml_of
from prompts.yamlfile import one_line

MOST_BYTES = 4 * 1024 * 1024  # of a file to be imported
MOST_TOLD = 100


class ImportRefused(ValueError):
    """The file is not what it is said to be; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Imported:
    """`files`: texts by name, for the folder of the prompt *id*. `dropped`: what could not be carried, and why."""

    id: str
    files: Mapping[str, str]
    dropped: tuple[str, ...]

    def renamed(self, prompt_id: str) -> Self:
        """Called *prompt_id*. Raises ImportRefused where that is no name."""
        if not ID.fullmatch(prompt_id):
            raise ImportRefused(f"{prompt_id!r} is no name of a prompt; use a-z, 0-9, - and _, with / between folders")
        old, new = (f"{name.rpartition('/')[2]}{ENDING}" for name in (self.id, prompt_id))
        files = {path: text for path, text in self.files.items() if path != old}
        first, rest_of = self.files[old].split("\n", 1)
        assert first.startswith("name:")
        return replace(self, id=prompt_id, files={new: f"name: {prompt_id}\n{rest_of}", **files})


@dataclass(slots=True)
class Making:
    """One prompt while it is read. `messages`: role and text of ours; a role `placeholder` is the client's own."""

    name: str
    names: Names = field(default_factory=Names)
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    response_format: dict[str, Any] | None = None
    messages: list[tuple[str, str]] = field(default_factory=list)
    properties: dict[str, Any] = field(default_factory=dict)  # what is known of variables, by our names
    suite: dict[str, Any] | None = None
    dropped: list[str] = field(default_factory=list)

    def drop(self, what: str, why: str) -> None:
        if len(self.dropped) < MOST_TOLD:
            self.dropped.append(one_line(f"{what}: {why}"))

    def say(self, role: object, text: str) -> None:
        if role not in ROLES:
            self.drop(f"a message of the role {role!r}", f"a template has the roles {', '.join(ROLES)}; it is left out")
            return
        self.messages.append((str(role), text))

    def parameter(self, name: str, value: Any) -> None:
        if name in NO_PARAMETERS:
            self.drop(name, "is no parameter of a template")
        elif value is not None:
            self.parameters[name] = value

    def take_parameters(self, said: Any, known: Mapping[str, str], where: str) -> None:
        """Those of *said*, which stands at *where*, that are *known*: by their names there, as they are called here."""
        for name, value in said.items() if isinstance(said, Mapping) else ():
            if name in known:
                self.parameter(known[name], value)
            else:
                self.drop(f"{where}.{name}", "is no parameter that is known here")

    def done(self) -> Imported:
        """Raises ImportRefused where there is nothing that a model could be told."""
        if not any(role != "placeholder" for role, _ in self.messages):
            raise ImportRefused(f"{self.name}: has no message that could be carried")
        prompt_id = id_of(self.name)
        if prompt_id != self.name:
            self.drop(f"the name {self.name!r}", f"is {prompt_id} here")
        name = prompt_id.rpartition("/")[2]
        files = {f"{name}{ENDING}": yaml_of(self._document(prompt_id))}
        if self.suite is not None:
            files[TESTS] = yaml_of(self.suite)
        return Imported(prompt_id, files, tuple(dict.fromkeys([*self.dropped, *self.names.notes])))

    def _document(self, prompt_id: str) -> dict[str, Any]:
        variables = list(self.names.ours.values())
        fixed = "\n".join(text for role, text in self.messages if role in ("system", "developer", "assistant"))
        properties = {}
        for name in variables:
            said = self.properties.get(name, {"type": "string"})
            outside = not re.search(rf"\{{\{{ {name} \}}\}}", fixed)
            properties[name] = {**said, "x-untrusted": True} if outside and said.get("type") == "string" else said
        required = [name for name in variables if "default" not in properties[name]]
        inputs = {"type": "object", "additionalProperties": False, "required": required, "properties": properties}
        messages = [
            {"placeholder": "history"} if role == "placeholder" else {"role": role, "content": text}
            for role, text in self.messages
        ]
        parts = {
            "name": prompt_id,
            "description": one_line(" ".join(self.description.split()))[:2000] or None,
            "modelParameters": self.parameters or None,
            "inputs": inputs,
            "messages": messages,
            "responseFormat": self.response_format,
        }
        return {key: value for key, value in parts.items() if value is not None}


def id_of(name: str) -> str:
    """The name of a prompt that is nearest to *name*."""
    parts = [re.sub(r"[^a-z0-9_-]+", "-", part.lower()).strip("-_")[:60].strip("-_") for part in name.split("/")]
    made = "/".join([part for part in parts if part][:8])
    return made if ID.fullmatch(made) else "imported"


def json_of(text: str) -> Any:
    """Raises ImportRefused."""
    if len(text) > MOST_BYTES:
        raise ImportRefused(f"is larger than {MOST_BYTES:,} bytes")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ImportRefused(f"is not JSON: {error}") from error


def mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ImportRefused(f"{what} is not an object with keys")
    if problem := not_json(value):
        raise ImportRefused(f"{what}: {'.'.join(map(str, problem.loc))}: {problem.remedy}")
    return value


def content_text(making: Making, content: object, where: str) -> str:
    """The text of a message's content: a text, or parts of which some are."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, Sequence) else ():
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            kind = part.get("type", "unknown") if isinstance(part, Mapping) else type(part).__name__
            making.drop(where, f"a part of the type {kind} is no text; send it with the request")
    return "\n".join(texts)


def rest(
    making: Making, said: Mapping[str, Any], known: Iterable[str], why: str = "has no place in a template"
) -> None:
    """Tell every key of *said* that is not *known*."""
    for key in said:
        if key not in known:
            making.drop(str(key), why)
