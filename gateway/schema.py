"""What a request must look like. Strict in what we read, open in what we pass on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway.errors import InvalidRequest, ModelNotFound
from models.catalog import AUTO, Ability, Catalog
from models.engine import Operation
from prompts.message import Message

if TYPE_CHECKING:
    from gateway.prompting.prompted import Prompted

CHOICES_LIMIT = 8  # `n` multiplies the work of one request
STOP_LIMIT = 4  # OpenAI's own limit
TOP_LOGPROBS_LIMIT = 20  # OpenAI's own limit
MESSAGES_LIMIT = 2048
TOOLS_LIMIT = 128  # OpenAI's own limit
PROMPTS_LIMIT = 16  # of one completions request; each is an answer of its own
INPUTS_LIMIT = 2048  # OpenAI's own limit for embeddings
DEPTH_LIMIT = 200  # of JSON in JSON; what is read may be 1,024 levels deep, what can be written to an engine 254
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
ADDRESS = re.compile(rb'"\s*[A-Za-z][A-Za-z0-9+.-]*://')  # at the beginning of a string
PART_ABILITIES = {
    "image_url": Ability.IMAGES,
    "input_audio": Ability.AUDIO,
    "file": Ability.FILES,
    "document": Ability.FILES,  # of providers; so is image
    "image": Ability.IMAGES,
    "video_url": Ability.MEDIA_URLS,  # of engines, not of the protocol: always fetched
}

# Fields of engines, not of the protocol, by which a caller could reach another caller's slot, load adapters, render a
# template of his own, keep a worker busy with a pattern, or hand over pickled tensors.
FORBIDDEN = frozenset(
    {
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "grammar",
        "guided_grammar",
        "guided_regex",
        "id_slot",
        "kv_transfer_params",
        "lora",
        "mm_processor_kwargs",
        "prompt_embeds",
        "stop_token_ids",
        "structured_outputs",
    }
)


WireT = TypeVar("WireT", bound=BaseModel)


class _Wire(BaseModel):
    """The fields that the gateway itself relies on; everything else passes through as it came."""

    model_config = ConfigDict(extra="ignore", strict=True)
    operation: ClassVar[Operation]

    model: str = Field(min_length=1, max_length=256)


class _Sampled(_Wire):
    """What chat and text completions have in common."""

    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = Field(default=None, max_length=1024)
    n: int | None = Field(default=None, ge=1, le=CHOICES_LIMIT)
    stop: Any = None
    seed: int | None = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: Any) -> Any:
        texts = [stop] if isinstance(stop, str) else [] if stop is None else stop
        if not (isinstance(texts, list) and len(texts) <= STOP_LIMIT and all(isinstance(t, str) for t in texts)):
            raise ValueError(f"must be a string, or a list of at most {STOP_LIMIT} strings")
        return stop


class ChatWire(_Sampled):
    operation: ClassVar[Operation] = Operation.CHAT

    messages: list[Any] = Field(min_length=1, max_length=MESSAGES_LIMIT)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_LIMIT)
    tools: list[Any] | None = Field(default=None, max_length=TOOLS_LIMIT)
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None

    @field_validator("messages")
    @classmethod
    def _messages(cls, messages: list[Any]) -> list[Any]:
        return check_messages(messages)

    @field_validator("tools")
    @classmethod
    def _tools(cls, tools: list[Any] | None) -> list[Any] | None:
        for place, tool in enumerate(tools or ()):
            if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
                raise ValueError(f"tools[{place}] must be an object with a 'type'")
            function = tool.get("function")
            if tool["type"] == "function" and not (
                isinstance(function, dict) and isinstance(function.get("name"), str)
            ):
                raise ValueError(f"tools[{place}].function must be an object with a 'name'")
        return tools


class CompletionWire(_Sampled):
    operation: ClassVar[Operation] = Operation.COMPLETION

    prompt: Any
    logprobs: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_LIMIT)
    best_of: int | None = Field(default=None, ge=1, le=CHOICES_LIMIT)

    @field_validator("prompt")
    @classmethod
    def _prompt(cls, prompt: Any) -> Any:
        return _texts_or_tokens(prompt, PROMPTS_LIMIT)


class EmbeddingWire(_Wire):
    operation: ClassVar[Operation] = Operation.EMBEDDING

    input: Any
    dimensions: int | None = Field(default=None, ge=1, le=65_536)
    encoding_format: str | None = Field(default=None, pattern="^(float|base64)$")

    @field_validator("input")
    @classmethod
    def _input(cls, value: Any) -> Any:
        return _texts_or_tokens(value, INPUTS_LIMIT)


def check_messages(messages: list[Any]) -> list[Any]:
    """The same. Raises ValueError, which names the place of what is no message."""
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            raise ValueError(f"messages[{place}] must be an object")
        if not isinstance(role := message.get("role"), str) or role not in ROLES:
            raise ValueError(f"messages[{place}].role must be system, developer, user, assistant or tool")
        content = message.get("content")
        if isinstance(content, list):
            for at, part in enumerate(content):
                if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                    raise ValueError(f"messages[{place}].content[{at}] must be an object with a 'type'")
        elif content is not None and not isinstance(content, str):
            raise ValueError(f"messages[{place}].content must be a string, a list of parts or null")
    return messages


PLAIN_CHAT = frozenset({Ability.CHAT})


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request. `name` is the model as the client wrote it, `target` what that means: `auto` or a model's
    name; `body_bytes` is how long the body is as JSON; `needs` is what a model must be able to do to answer it.

    `prompt`: of the library, where the request names one; the body is then what the dearest of its models is told.
    """

    name: str
    target: str
    body: dict[str, Any]
    body_bytes: int
    needs: frozenset[Ability]
    operation: Operation = Operation.CHAT
    stream: bool = False
    include_usage: bool = False
    prompt: "Prompted | None" = None

    def told(self, model: str) -> "Asked":
        """The request as *model* is told it."""
        return self if self.prompt is None else self.prompt.telling(model)

    @property
    def tellings(self) -> "Sequence[Asked]":
        """All the forms in which it may be told, one for most."""
        return (self,) if self.prompt is None else (*self.prompt.tellings.values(),)

    @property
    def messages(self) -> list[Message]:
        """Those of a conversation; none for other operations."""
        messages: list[Message] = self.body.get("messages") or []
        return messages


def parse_chat(raw: bytes, catalog: Catalog) -> Asked:
    """Raises InvalidRequest or ModelNotFound."""
    return check(parse_object(raw), len(raw), catalog)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Raises InvalidRequest for what is no JSON object, or nested too deeply to be passed on."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the request body must be a JSON object", code="invalid_json")
    if _may_be_deeper(raw, DEPTH_LIMIT) and _is_deeper(body, DEPTH_LIMIT):
        raise InvalidRequest(f"the request body is nested more than {DEPTH_LIMIT} levels deep", code="invalid_json")
    return body


def check(body: dict[str, Any], body_bytes: int, catalog: Catalog, wire_type: type[_Wire] = ChatWire) -> Asked:
    """Raises InvalidRequest or ModelNotFound."""
    wire = checked(body, wire_type)
    if not FORBIDDEN.isdisjoint(body):
        first_one = min(FORBIDDEN.intersection(body))
        raise InvalidRequest(f"the field {first_one!r} may not be set by a client", param=first_one)
    options = getattr(wire, "stream_options", None) or {}
    return Asked(
        name=wire.model,
        target=target_of(wire.model, catalog),
        body=body,
        body_bytes=body_bytes,
        needs=_needs(wire),
        operation=wire.operation,
        stream=bool(getattr(wire, "stream", None)),
        include_usage=bool(options.get("include_usage")),
    )


def checked(body: dict[str, Any], wire_type: type[WireT]) -> WireT:
    """*body* as *wire_type* has it. Raises InvalidRequest, which names the first wrong field."""
    try:
        return wire_type.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        param, said = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        if said.startswith(f"{param}["):  # our own checks name the very place
            raise InvalidRequest(said, param=said.partition(" ")[0]) from error
        raise InvalidRequest(f"{param}: {said}", param=param) from error


def _needs(wire: _Wire) -> frozenset[Ability]:
    match wire:
        case EmbeddingWire():
            return frozenset({Ability.EMBEDDINGS})
        case CompletionWire():
            needs = {Ability.COMPLETIONS}
            wanted = {Ability.LOGPROBS: wire.logprobs is not None, Ability.CHOICES: (wire.n or 1) > 1}
        case ChatWire():
            if _is_plain(wire):
                return PLAIN_CHAT
            needs = {Ability.CHAT}
            wanted = {
                Ability.TOOLS: bool(wire.tools),
                Ability.STRUCTURED: (wire.response_format or {}).get("type") in ("json_schema", "json_object"),
                Ability.LOGPROBS: bool(wire.logprobs),
                Ability.CHOICES: (wire.n or 1) > 1,
                Ability.AUDIO: "audio" in (wire.modalities or ()),
                Ability.REASONING: wire.reasoning_effort not in (None, "none"),
            }
            needs.update(_needs_of_parts(wire.messages))
        case _:
            raise AssertionError(wire)
    return frozenset(needs.union(ability for ability, is_wanted in wanted.items() if is_wanted))


def _is_plain(wire: ChatWire) -> bool:
    """Nothing but text is asked for and shown, as in most requests."""
    special = wire.tools or wire.response_format or wire.logprobs or wire.modalities or wire.reasoning_effort
    return not special and wire.n in (None, 1) and not any(type(m.get("content")) is list for m in wire.messages)


def _needs_of_parts(messages: Iterable[Message]) -> set[Ability]:
    needs = set()
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for part in content:
            ability = PART_ABILITIES.get(part["type"])
            if ability is not None:
                needs.add(ability)
            if ability in (Ability.IMAGES, Ability.FILES) and not _is_inline(part):
                needs.add(Ability.MEDIA_URLS)
    return needs


def _is_inline(part: Mapping[str, Any]) -> bool:
    """What a part shows is in the request itself; any other address would be called by the engine."""
    if part["type"] == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return isinstance(url, str) and url.startswith("data:")
    return ADDRESS.search(orjson.dumps(part)) is None


def _texts_or_tokens(value: Any, limit: int) -> Any:
    """A string, strings, token ids, or lists of token ids, as OpenAI's protocol has it."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")
    if all(_is_token(item) for item in value):
        return value
    if len(value) > limit:
        raise ValueError(f"has {len(value)} entries; at most {limit} are taken")
    texts = all(isinstance(item, str) for item in value)
    if not texts and not all(isinstance(item, list) and item and all(map(_is_token, item)) for item in value):
        raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")
    return value


def _is_token(value: Any) -> bool:
    return type(value) is int and value >= 0


def _may_be_deeper(raw: bytes, levels: int) -> bool:
    """Whether there are brackets enough; `find` leaps over a long text, where `count` looks at each byte of it."""
    for bracket in (b"{", b"["):
        place = raw.find(bracket)
        while place >= 0 and levels >= 0:
            levels -= 1
            place = raw.find(bracket, place + 1)
    return levels < 0


def _is_deeper(value: Any, levels: int) -> bool:
    """Looks at one level of nesting after the other, so it needs no stack."""
    level: list[Any] = [value]
    for _ in range(levels):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def target_of(asked: str, catalog: Catalog) -> str:
    """What the name of a model means: `auto` or a model's name. Raises ModelNotFound."""
    target = catalog.aliases.get(asked, asked)
    if target == AUTO or target in catalog.models:
        return target
    served = [AUTO, *catalog.models]
    near = get_close_matches(asked.lower(), served, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ModelNotFound(f"the model {asked[:100]!r} does not exist here; served: {', '.join(served)}{hint}")
