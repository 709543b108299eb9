"""How a request names a prompt: in its body, in the name of its model, or in headers. Reads it; knows no library."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import InvalidRequest, PromptNotFound
from prompts.reference import Reference, ReferenceRefused, reference

if TYPE_CHECKING:
    from gateway.held import Held
    from gateway.prompting.named import Named

AS_MODEL: Final = "prompt:"
ID_HEADER, VERSION_HEADER = b"x-prompt-id", b"x-prompt-version"
HEADERS = frozenset({ID_HEADER, VERSION_HEADER})
# What is the gateway's own in the body of such a request, and goes to no engine.
FIELDS = frozenset({"prompt", "prompt_id", "prompt_version", "prompt_variables", "variables"})


@dataclass(frozen=True, slots=True)
class Naming:
    """`variables`: None where there are none; then *metadata* may hold them, where the prompt is named as a model.

    `model`: who shall answer, where the request says so beside the prompt.
    """

    reference: Reference
    variables: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Said:
    """What one place of a request says, and which that is; None for what it leaves to others."""

    where: str
    id: str | None
    version: str | None


def names_prompt(body: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """All that a request costs which names none: four names that are not there, and the beginning of a fifth."""
    if ID_HEADER in headers or VERSION_HEADER in headers:
        return True
    if ("prompt" in body and body["prompt"] is not None) or ("prompt_id" in body and body["prompt_id"] is not None):
        return True
    model = body.get("model")
    return isinstance(model, str) and model.startswith(AS_MODEL)


def named_in(held: "Held", body: Mapping[str, Any]) -> "Named | None":
    """The version that a request names; None for one that names none. Raises InvalidRequest, PromptNotFound."""
    if not names_prompt(body, held.headers):
        return None
    from gateway.prompting.named import named

    return named(held, naming_of(body, held.headers))


def refuse_naming(body: Mapping[str, Any], headers: Mapping[bytes, bytes], path: str) -> None:
    """For a *path* that holds no conversation, where a prompt would be ignored. Its own `prompt` is a text, or tokens.
    Raises InvalidRequest.
    """
    where = next((name.decode() for name in _HEADERS if name in headers), None)
    if where is None and body.get("prompt_id") is not None:
        where = "prompt_id"
    if where is None and isinstance(body.get("prompt"), Mapping):
        where = "prompt"
    if where is None and isinstance(model := body.get("model"), str) and model.startswith(AS_MODEL):
        where = "model"
    if where is not None:
        remedy = "call it by /v1/chat/completions, /v1/responses or /v1/messages"
        says = f"{where} names a prompt of the library, whose messages {path} cannot take; {remedy}"
        raise InvalidRequest(says, param=where, code="prompt_not_possible")


def naming_of(body: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Naming:
    """Raises InvalidRequest, and PromptNotFound for what can be the name of no prompt."""
    said = [*_in_body(body), *_in_model(body), *_in_headers(headers)]
    _check_agreed("id", {one.where: one.id for one in said if one.id is not None})
    _check_agreed("version", {one.where: one.version for one in said if one.version is not None})
    first = next((one for one in said if one.id is not None), None)
    if first is None:
        where = said[0].where
        raise InvalidRequest(f"{where} is a version of no prompt; name the prompt too", param=where)
    assert first.id is not None
    version = next((one.version for one in said if one.version is not None), None)
    try:
        meant = reference(first.id, version)
    except ReferenceRefused as error:
        raise PromptNotFound(str(error), param=first.where) from error
    model = body.get("model")
    as_model = isinstance(model, str) and model.startswith(AS_MODEL)
    metadata = body.get("metadata") if as_model else None
    return Naming(
        meant,
        _variables(body),
        metadata if isinstance(metadata, Mapping) else None,
        None if as_model else _text(model, "model"),
    )


def _in_body(body: Mapping[str, Any]) -> Iterator[Said]:
    prompt = body.get("prompt")
    if prompt is not None:
        if not isinstance(prompt, Mapping):
            raise InvalidRequest("prompt must be an object: {id, version, variables}", param="prompt")
        ids = {key: _text(prompt.get(key), f"prompt.{key}") for key in ("id", "prompt_id")}
        given = {f"prompt.{key}": id for key, id in ids.items() if id is not None}
        _check_agreed("id", given)
        if not given:
            raise InvalidRequest("prompt.id is required", param="prompt.id")
        where, id = next(iter(given.items()))
        yield from _said(where, id)
        yield Said("prompt.version", None, _version(prompt.get("version"), "prompt.version"))
    if body.get("prompt_id") is not None:
        yield from _said("prompt_id", _text(body["prompt_id"], "prompt_id"))
        yield Said("prompt_version", None, _version(body.get("prompt_version"), "prompt_version"))


def _in_model(body: Mapping[str, Any]) -> Iterator[Said]:
    model = body.get("model")
    if isinstance(model, str) and model.startswith(AS_MODEL):
        yield from _said("model", model.removeprefix(AS_MODEL))


def _in_headers(headers: Mapping[bytes, bytes]) -> Iterator[Said]:
    id, version = (headers[name].decode("latin-1").strip() if name in headers else None for name in _HEADERS)
    yield from _said(ID_HEADER.decode(), id)
    yield Said(VERSION_HEADER.decode(), None, version)


_HEADERS = (ID_HEADER, VERSION_HEADER)


def _said(where: str, written: str | None) -> Iterator[Said]:
    """An id may have its version behind an @ wherever it stands."""
    if written is not None:
        id, at, version = written.partition("@")
        yield Said(where, id, version if at else None)


def _check_agreed(what: str, said: Mapping[str, str]) -> None:
    if len(set(said.values())) > 1:
        told = ", ".join(f"{where} says {value[:80]!r}" for where, value in said.items())
        raise InvalidRequest(f"the {what} of the prompt is said twice, and not the same: {told}", param="prompt")


def _variables(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    prompt = body.get("prompt")
    places = {
        "prompt.variables": prompt.get("variables") if isinstance(prompt, Mapping) else None,
        "prompt_variables": body.get("prompt_variables"),
        "variables": body.get("variables"),
    }
    given = {where: value for where, value in places.items() if value is not None}
    for where, value in given.items():
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"{where} must be an object: a value for each variable", param=where)
    first = next(iter(given.values()), None)
    if any(value != first for value in given.values()):
        raise InvalidRequest(f"{' and '.join(given)} are not the same; send the variables once", param=[*given][-1])
    return first


def _version(value: Any, where: str) -> str | None:
    """OpenAI's SDK has a string; a number is as clear."""
    return str(value) if type(value) is int else _text(value, where)


def _text(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest(f"{where} must be a string", param=where)
