"""What a chat-completions request must look like. Strict in what we read, open in what we pass on."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway.errors import InvalidRequest, ModelNotFound
from models.catalog import AUTO, Catalog
from prompts.message import Message

CHOICES_LIMIT = 8  # `n` multiplies the work of one request
STOP_LIMIT = 4  # OpenAI's own limit
TOP_LOGPROBS_LIMIT = 20  # OpenAI's own limit
MESSAGES_LIMIT = 2048

# Fields of engines, not of the protocol, by which a caller could reach another caller's slot, load adapters, render a
# template of his own or hand over pickled tensors.
FORBIDDEN = frozenset(
    {
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "grammar",
        "id_slot",
        "kv_transfer_params",
        "lora",
        "prompt_embeds",
        "stop_token_ids",
    }
)


class _Wire(BaseModel):
    """The fields that the gateway itself relies on; everything else passes through as it came."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str = Field(min_length=1, max_length=256)
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MESSAGES_LIMIT)
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    n: int | None = Field(default=None, ge=1, le=CHOICES_LIMIT)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_LIMIT)
    stop: Any = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None

    @field_validator("messages")
    @classmethod
    def _roles(cls, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for place, message in enumerate(messages):
            if message.get("role") not in ("system", "developer", "user", "assistant", "tool", "function"):
                raise ValueError(f"messages[{place}].role must be system, developer, user, assistant or tool")
            if not isinstance(message.get("content"), str | list | None):
                raise ValueError(f"messages[{place}].content must be a string, a list of parts or null")
        return messages

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: Any) -> Any:
        texts = [stop] if isinstance(stop, str) else [] if stop is None else stop
        if not (isinstance(texts, list) and len(texts) <= STOP_LIMIT and all(isinstance(t, str) for t in texts)):
            raise ValueError(f"must be a string, or a list of at most {STOP_LIMIT} strings")
        return stop


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request. `asked` is the client's model name, `target` what it means: `auto` or a model's name."""

    asked: str
    target: str
    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool
    body: dict[str, Any]


def parse_chat(raw: bytes, catalog: Catalog) -> ChatRequest:
    """Raises InvalidRequest or ModelNotFound."""
    body = _parse_object(raw)
    try:
        wire = _Wire.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{param}: {first['msg'].removeprefix('Value error, ')}", param=param) from error
    forbidden = sorted(FORBIDDEN.intersection(body))
    if forbidden:
        raise InvalidRequest(f"the field {forbidden[0]!r} may not be set by a client", param=forbidden[0])
    return ChatRequest(
        asked=wire.model,
        target=_target(wire.model, catalog),
        messages=tuple(wire.messages),
        stream=bool(wire.stream),
        include_usage=bool((wire.stream_options or {}).get("include_usage")),
        body=body,
    )


def _parse_object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the request body must be a JSON object", code="invalid_json")
    return body


def _target(asked: str, catalog: Catalog) -> str:
    target = catalog.aliases.get(asked, asked)
    if target == AUTO or target in catalog.models:
        return target
    served = [AUTO, *catalog.models]
    near = get_close_matches(asked.lower(), served, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ModelNotFound(f"the model {asked[:100]!r} does not exist here; served: {', '.join(served)}{hint}")
