"""Anthropic's Messages as chat completions and back. Knows both protocols."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.schema import STOP_LIMIT
from gateway.shapes import named_event
from gateway.shapes.answer import Answer, Block, Closed, Grew, Kind, Opened, Step, as_chunk, usage_of
from gateway.shapes.conversation import Conversation, Part, image_part, text_part
from gateway.shapes.fields import Fields, given, objects, refuse_too_deep
from models.engine import Usage

EFFORTS = ("low", "medium", "high", "xhigh", "max")
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
SCHEMA_NAME = "output"  # chat completions want a name for a schema, Messages have none

# A thinking budget is in tokens, effort is a word, and nobody publishes a table between them: these are our judgement.
LOW_BUDGET_TOKENS = 4_096
MEDIUM_BUDGET_TOKENS = 16_384

# What the request has that chat completions have not, or mean something else by; the rest is passed on as it came.
_OWN = frozenset(  # one name a line would be forty lines
    """cache_control container context_management diagnostics inference_geo mcp_servers max_tokens messages metadata
    output_config output_format service_tier speed stop_sequences system thinking tool_choice tools user_profile_id
    workspace_id betas parallel_tool_calls
    n functions function_call max_completion_tokens response_format reasoning_effort stop stream_options logprobs
    top_logprobs modalities audio prediction web_search_options""".split()  # noqa: SIM905
)


def to_chat(body: dict[str, Any], history: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The chat-completions body that asks the same. *history*: messages that come before those of the body. Raises
    InvalidRequest, which names the parameter.

    `prompt`, of the library, is passed on untouched; with it, `max_tokens` and the messages may be absent. A last
    message of the assistant is passed on as it is: whether the model goes on from it is the engine's affair.
    """
    refuse_too_deep(body)
    fields = Fields(body)
    for key in ("container", "mcp_servers"):
        if fields.raw(key):
            raise fields.wrong(key, "is not available here")
    if fields.raw("max_tokens") is None and fields.raw("prompt") is None:
        raise fields.wrong("max_tokens", "is required")
    tools = {tool.required("name", str): _tool(tool) for tool in fields.objects("tools")}
    choice = fields.object("tool_choice")
    metadata = fields.object("metadata")
    passed = {key: value for key, value in body.items() if key not in _OWN and value is not None}
    return passed | given(
        model=fields.optional("model", str),
        messages=_messages(fields, history),
        stream=fields.optional("stream", bool),
        max_completion_tokens=fields.count("max_tokens", 1),
        temperature=fields.number("temperature", 0, 1),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.count("top_k", 0),
        stop=_stop_sequences(fields) or None,
        user=metadata and metadata.optional("user_id", str),
        reasoning_effort=_effort(fields),
        response_format=_response_format(fields),
        tools=list(tools.values()) or None,
        tool_choice=choice and _tool_choice(choice, tools),
        parallel_tool_calls=False if tools and choice and choice.optional("disable_parallel_tool_use", bool) else None,
    )


def _stop_sequences(fields: Fields) -> list[str]:
    stops = fields.optional("stop_sequences", list) or []
    if len(stops) > STOP_LIMIT or not all(isinstance(stop, str) for stop in stops):
        raise fields.wrong("stop_sequences", f"must be a list of at most {STOP_LIMIT} strings")
    return stops


def _effort(fields: Fields) -> str | None:
    """`output_config.effort` as it is; else what a thinking budget comes to. Disabled thinking is effort "none";
    adaptive thinking is left to the model.
    """
    thinking, output = fields.object("thinking"), fields.object("output_config")
    kind = thinking and thinking.kind(("enabled", "disabled", "adaptive", "between_tools"))
    if kind == "disabled":
        return "none"
    effort = output and output.one_of("effort", EFFORTS)
    if thinking is None or kind != "enabled":
        return effort or None
    thinking.required("budget_tokens", int)
    budget_tokens = thinking.count("budget_tokens", 1) or 0
    budgeted = (
        "low" if budget_tokens <= LOW_BUDGET_TOKENS else "medium" if budget_tokens <= MEDIUM_BUDGET_TOKENS else "high"
    )
    return effort or budgeted


def _response_format(fields: Fields) -> dict[str, Any] | None:
    output = fields.object("output_config")
    wanted = output and output.object("format")
    if not wanted:
        return None
    kind = wanted.kind(("json_schema",))
    return {"type": kind, kind: {"name": SCHEMA_NAME, "schema": wanted.required("schema", dict), "strict": True}}


def _tool(tool: Fields) -> dict[str, Any]:
    if tool.raw("type") is not None:
        tool.kind(("custom",))
    function = given(
        name=tool.required("name", str),
        description=tool.optional("description", str),
        parameters=tool.required("input_schema", dict),
        strict=tool.optional("strict", bool),
    )
    return {"type": "function", "function": function}


def _tool_choice(choice: Fields, tools: dict[str, Any]) -> str | dict[str, Any] | None:
    """None where there are no tools: engines refuse a choice among none."""
    kind = choice.kind(("auto", "any", "tool", "none"))
    if kind == "any" and not tools:
        raise choice.wrong("type", "'any' needs tools")
    if kind != "tool":
        return "required" if kind == "any" else kind if tools else None
    name = choice.required("name", str)
    if name not in tools:
        raise choice.wrong("name", f"names {name[:60]!r}, which is not among the tools")
    return {"type": "function", "function": {"name": name}}


def _messages(fields: Fields, history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    conversation = Conversation()
    if fields.raw("system") not in (None, "", []):
        conversation.say("system", [_text(block, "a system prompt") for block in _blocks(fields, "system")])
    messages = fields.objects("messages")
    if not messages and fields.raw("prompt") is None:
        raise fields.wrong("messages", "is required: at least one message")
    for message in [*objects(list(history), "history"), *messages]:
        blocks = _blocks(message, "content")
        match message.required("role", str):
            case "user":
                _add_user(conversation, blocks)
            case "assistant":
                _add_assistant(conversation, blocks)
            case "system":
                conversation.say("system", [_text(block, "a system message") for block in blocks])
            case _:
                raise message.wrong("role", "must be user, assistant or system")
    return conversation.end()


def _blocks(holder: Fields, key: str) -> list[Fields]:
    content = holder.raw(key)
    if isinstance(content, str):
        return [Fields({"type": "text", "text": content}, holder.at(key))]
    if not isinstance(content, list):
        raise holder.wrong(key, "must be a string or a list of blocks")
    return holder.objects(key)


def _text(block: Fields, where: str) -> Part:
    if block.required("type", str) != "text":
        raise block.wrong("type", f"must be text in {where}")
    return text_part(block.required("text", str))


def _add_user(conversation: Conversation, blocks: list[Fields]) -> None:
    """Results first: chat completions want them right behind the calls."""
    said: list[Part] = []
    results = 0
    for block in blocks:
        if block.kind(("text", "image", "document", "search_result", "tool_result")) != "tool_result":
            said += _parts(block)
            continue
        results += 1
        id = block.required("tool_use_id", str)
        if not conversation.awaits(id):
            raise block.wrong("tool_use_id", f"{id[:60]!r} answers no tool_use before it")
        conversation.give(id, _result(block))
    if said or not results:
        conversation.say("user", said)


def _result(block: Fields) -> list[Part]:
    """Chat completions have no mark for a failed call, so the text says it."""
    blocks = [] if block.raw("content") is None else _blocks(block, "content")
    parts: list[Part] = []
    for inner in blocks:
        inner.kind(("text", "image", "document", "search_result"))
        parts += _parts(inner)
    return [text_part("Error:"), *parts] if block.optional("is_error", bool) else parts


def _parts(block: Fields) -> list[Part]:
    """What a block that is neither a call nor a result says."""
    match block.raw("type"):
        case "text":
            return [text_part(block.required("text", str))]
        case "image":
            return [image_part(_image_url(block))]
        case "search_result":
            head = f"{block.required('title', str)} ({block.required('source', str)}):"
            texts = [_text(inner, "a search result")["text"] for inner in block.objects("content")]
            return [text_part("\n".join([head, *texts]))]
        case _:
            return _document(block)


def _image_url(block: Fields) -> str:
    source = _source(block)
    if source.kind(("base64", "url")) == "url":
        return source.required("url", str)
    media_type = source.one_of("media_type", IMAGE_TYPES)
    if media_type is None:
        raise source.wrong("media_type", "is required")
    return f"data:{media_type};base64,{source.required('data', str)}"


def _document(block: Fields) -> list[Part]:
    source = _source(block)
    parts: list[Part] = []
    if source.kind(("text", "content")) == "text":
        parts.append(text_part(source.required("data", str)))
    else:
        for inner in _blocks(source, "content"):
            inner.kind(("text", "image"))
            parts += _parts(inner)
    head = [text for text in (block.optional("title", str), block.optional("context", str)) if text]
    return [text_part("\n".join(head)), *parts] if head else parts


def _source(block: Fields) -> Fields:
    source = block.object("source")
    if source is None:
        raise block.wrong("source", "is required")
    return source


def _add_assistant(conversation: Conversation, blocks: list[Fields]) -> None:
    said: list[Part] = []
    calls: list[tuple[str, str, str]] = []
    for block in blocks:
        match block.kind(("text", "tool_use", "thinking", "redacted_thinking")):
            case "text":
                said.append(text_part(block.required("text", str)))
            case "tool_use":
                arguments = orjson.dumps(block.required("input", dict)).decode()
                calls.append((block.required("id", str), block.required("name", str), arguments))
            case "thinking" if thought := block.required("thinking", str):
                conversation.think(thought)
    if said or not calls:
        conversation.say("assistant", said)
    for call in calls:
        conversation.call(*call)


def from_chat(
    document: dict[str, Any], asked: dict[str, Any], *, id: str, created: int, now: int | None = None
) -> dict[str, Any]:
    """The Message for a whole chat.completion. *asked*: the request's body, which `to_chat` has accepted."""
    stream = Stream(asked, id=id, created=created, model=str(document.get("model") or asked.get("model")))
    stream.feed(as_chunk(document))
    stream.end(usage_of(document), now)
    return stream.result()


class Stream:
    """One answer as the events of a streamed Message. Reasoning is shown only where thinking was asked for: clients
    that did not ask read the first block as text. A Message has no time in it and no unknown: tokens not counted are 0.
    """

    def __init__(self, asked: dict[str, Any], *, id: str, created: int, model: str) -> None:
        self._asked = asked
        self._id = id
        self._model = model
        self._answer = Answer(id.partition("_")[2] or id, reasoning=_shows_thinking(asked))
        self._usage: Usage | None = None
        self._ended = False

    def begin(self) -> bytes:
        return named_event("message_start", message=self.result())

    def feed(self, document: dict[str, Any]) -> bytes:
        return b"".join(event for step in self._answer.feed(document) for event in _events(step))

    def end(self, usage: Usage | None, now: int | None = None) -> bytes:
        events = [event for step in self._answer.end() for event in _events(step)]
        self._usage = usage
        self._ended = True
        delta = named_event("message_delta", delta=self._stop(), usage=_usage(usage))
        return b"".join([*events, delta, named_event("message_stop")])

    def fail(self, error: GatewayError) -> bytes:
        return named_event("error", error=error_body(error)["error"])

    def result(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [_content_block(block) for block in self._answer.blocks],
            "container": None,
            **self._stop(),
            "usage": _usage(self._usage),
        }

    def _stop(self) -> dict[str, Any]:
        reason = self._stop_reason() if self._ended else None
        stopped_by = self._answer.stopped_by if reason == "stop_sequence" else None
        refused = "".join(block.text for block in self._answer.blocks if block.kind is Kind.REFUSAL)
        details = {"type": "refusal", "category": None, "explanation": refused or None} if reason == "refusal" else None
        return {"stop_reason": reason, "stop_sequence": stopped_by, "stop_details": details}

    def _stop_reason(self) -> str:
        kinds = {block.kind for block in self._answer.blocks}
        if self._answer.finish == "length":
            return "max_tokens"
        if self._answer.finish == "content_filter" or Kind.REFUSAL in kinds:
            return "refusal"
        if Kind.CALL in kinds:  # some servers say "stop" then
            return "tool_use"
        return "stop_sequence" if self._answer.stopped_by in (self._asked.get("stop_sequences") or ()) else "end_turn"


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: GatewayError, request_id: str | None = None) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}


def _shows_thinking(asked: dict[str, Any]) -> bool:
    thinking = asked.get("thinking") or {}
    return thinking.get("type", "disabled") != "disabled" and thinking.get("display") != "omitted"


_DELTAS = {
    Kind.TEXT: ("text_delta", "text"),
    Kind.REFUSAL: ("text_delta", "text"),
    Kind.REASONING: ("thinking_delta", "thinking"),
    Kind.CALL: ("input_json_delta", "partial_json"),
}


def _events(step: Step) -> Iterator[bytes]:
    block = step.block
    match step:
        case Opened():
            new = _content_block(Block(block.kind, block.place, block.id, block.name))
            yield named_event("content_block_start", index=block.place, content_block=new)
        case Grew(_, text, _) if text:
            kind, key = _DELTAS[block.kind]
            yield named_event("content_block_delta", index=block.place, delta={"type": kind, key: text})
        case Closed():
            yield named_event("content_block_stop", index=block.place)


def _content_block(block: Block) -> dict[str, Any]:
    match block.kind:
        case Kind.CALL:
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": _input(block.text)}
        case Kind.REASONING:
            return {"type": "thinking", "thinking": block.text, "signature": ""}
        case _:
            return {"type": "text", "text": block.text, "citations": None}


def _input(arguments: str) -> dict[str, Any]:
    """The arguments that a model wrote; wrapped as Anthropic advises where they are no JSON object, as when cut."""
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": arguments}


def _usage(usage: Usage | None) -> dict[str, Any]:
    counted = usage or Usage(0, 0)
    return {
        "input_tokens": counted.prompt_tokens - counted.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counted.cached_tokens,
        "output_tokens": counted.completion_tokens,
        "output_tokens_details": {"thinking_tokens": counted.reasoning_tokens},
    }
