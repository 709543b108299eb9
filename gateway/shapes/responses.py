"""OpenAI's Responses as chat completions and back. Knows both protocols. Keeps no response: the caller does, and hands
the items of earlier ones in as `history`.
"""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from gateway.errors import GatewayError
from gateway.shapes import named_event
from gateway.shapes.answer import Answer, Block, Closed, Grew, Kind, Opened, Step, as_chunk, usage_of
from gateway.shapes.conversation import Conversation, Part, image_part, text_part
from gateway.shapes.fields import Fields, given, objects, refuse_too_deep
from models.engine import Usage

Item = dict[str, Any]  # of `input` or `output`, as the protocol has it

TOP_LOGPROBS_LIMIT = 20  # OpenAI's own limit
METADATA_LIMIT = 16  # pairs; OpenAI's own limits, also of the next two
METADATA_KEY_CHARACTERS = 64
METADATA_VALUE_CHARACTERS = 512

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")
LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = (
    LOGPROBS,
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
TEXT_TYPES = ("application/json", "application/xml", "application/yaml", "application/csv")  # beside text/*

# What the request has that chat completions have not, or mean something else by; the rest is passed on as it came.
_OWN = frozenset(  # one name a line would be forty lines
    """background background_options context_management conversation image include input instructions max_output_tokens
    max_tool_calls moderation previous_response_id prompt_cache_options reasoning store stream_options text tool_choice
    parallel_tool_calls tools top_logprobs truncation access_programs
    messages n functions function_call max_tokens max_completion_tokens response_format reasoning_effort logprobs
    modalities audio prediction web_search_options""".split()  # noqa: SIM905
)


def to_chat(body: dict[str, Any], history: Sequence[Item] = ()) -> dict[str, Any]:
    """The chat-completions body that asks the same. *history*: the items of the responses that this one follows, oldest
    first. Raises InvalidRequest, which names the parameter.

    `prompt` is passed on untouched; with it, `input` may be absent and the messages empty. `truncation: "auto"` is
    accepted, but nothing is cut; the response says "disabled".
    """
    refuse_too_deep(body)
    fields = Fields(body)
    for key, why in (("conversation", "use previous_response_id"), ("background", "ask without it, or stream")):
        if fields.raw(key):
            raise fields.wrong(key, f"is not available here: {why}")
    _check_echoed(fields)
    reasoning, text = fields.object("reasoning"), fields.object("text")
    wants_logprobs = LOGPROBS in _included(fields)
    top_logprobs = fields.count("top_logprobs", 0, TOP_LOGPROBS_LIMIT)
    tools, tool_choice = _tools(fields)
    passed = {key: value for key, value in body.items() if key not in _OWN and value is not None}
    return passed | given(
        model=fields.optional("model", str),
        messages=_messages(fields, history),
        stream=fields.optional("stream", bool),
        max_completion_tokens=fields.count("max_output_tokens", 1),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        reasoning_effort=reasoning and reasoning.one_of("effort", EFFORTS),
        verbosity=text and text.one_of("verbosity", ("low", "medium", "high")),
        response_format=text and _response_format(text),
        tools=tools or None,
        tool_choice=tool_choice,
        parallel_tool_calls=fields.optional("parallel_tool_calls", bool) if tools else None,
        logprobs=wants_logprobs or None,
        top_logprobs=(top_logprobs or 0) if wants_logprobs else None,
    )


def _check_echoed(fields: Fields) -> None:
    """The response repeats these; the chat body needs some of them not at all."""
    for key in ("previous_response_id", "user", "safety_identifier", "prompt_cache_key", "service_tier"):
        fields.optional(key, str)
    fields.optional("store", bool)
    fields.count("max_tool_calls", 1)
    fields.one_of("truncation", ("auto", "disabled"))
    for key in ("presence_penalty", "frequency_penalty"):
        fields.number(key, -2, 2)
    reasoning = fields.object("reasoning")
    if reasoning:
        reasoning.one_of("summary", SUMMARIES)
    metadata = fields.optional("metadata", dict) or {}
    if len(metadata) > METADATA_LIMIT:
        raise fields.wrong("metadata", f"may have at most {METADATA_LIMIT} pairs")
    for key, value in metadata.items():
        if len(key) > METADATA_KEY_CHARACTERS or not isinstance(value, str) or len(value) > METADATA_VALUE_CHARACTERS:
            limits = f"at most {METADATA_KEY_CHARACTERS} and {METADATA_VALUE_CHARACTERS} characters"
            raise fields.wrong("metadata", f"must be pairs of strings of {limits}")


def _included(fields: Fields) -> list[str]:
    include = fields.optional("include", list) or []
    for place, name in enumerate(include):
        if name not in INCLUDABLE:
            raise fields.wrong(f"include[{place}]", f"must be one of {', '.join(INCLUDABLE)}")
    return include


def _tools(fields: Fields) -> tuple[list[dict[str, Any]], Any]:
    """The tools and the choice among them, which engines refuse where there are none. Where the choice is a list of
    allowed tools, only those are there.
    """
    tools = {tool.required("name", str): _tool(tool) for tool in fields.objects("tools") if tool.kind(("function",))}
    choice = fields.raw("tool_choice")
    if choice is None or isinstance(choice, str):
        mode = fields.one_of("tool_choice", ("auto", "none", "required"))
        if mode == "required" and not tools:
            raise fields.wrong("tool_choice", "'required' needs tools")
        return list(tools.values()), mode if tools else None
    chosen = Fields(choice, "tool_choice")
    if chosen.kind(("function", "allowed_tools")) == "function":
        name = _known_tool(chosen, tools)
        return list(tools.values()), {"type": "function", "function": {"name": name}}
    chosen.required("mode", str)
    chosen.required("tools", list)
    allowed = {_known_tool(tool, tools) for tool in chosen.objects("tools") if tool.kind(("function",))}
    mode = chosen.one_of("mode", ("auto", "required"))
    return [tool for name, tool in tools.items() if name in allowed], mode if allowed else None


def _tool(tool: Fields) -> dict[str, Any]:
    function = given(
        name=tool.required("name", str),
        description=tool.optional("description", str),
        parameters=tool.optional("parameters", dict),
        strict=tool.optional("strict", bool),
    )
    return {"type": "function", "function": function}


def _known_tool(choice: Fields, tools: dict[str, Any]) -> str:
    name = choice.required("name", str)
    if name not in tools:
        raise choice.wrong("name", f"names {name[:60]!r}, which is not among the tools")
    return name


def _response_format(text: Fields) -> dict[str, Any] | None:
    wanted = text.object("format")
    if wanted is None:
        return None
    kind = wanted.kind(("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return {"type": kind}
    schema = given(
        name=wanted.required("name", str),
        description=wanted.optional("description", str),
        schema=wanted.required("schema", dict),
        strict=wanted.optional("strict", bool),
    )
    return {"type": kind, kind: schema}


def _messages(fields: Fields, history: Sequence[Item]) -> list[dict[str, Any]]:
    conversation = Conversation()
    instructions = fields.optional("instructions", str)
    if instructions is not None:
        conversation.say("system", [text_part(instructions)])
    known = {item.get("id") for item in history}
    for item in [*objects(list(history), "history"), *_input(fields)]:
        _add(conversation, item, known)
    messages = conversation.end()
    if not messages and fields.raw("prompt") is None:
        raise fields.wrong("input", "is required: a string or a list of items")
    return messages


def _input(fields: Fields) -> list[Fields]:
    if isinstance(fields.raw("input"), str):
        return [Fields({"role": "user", "content": fields.raw("input")}, "input")]
    if not isinstance(fields.raw("input"), list | None):
        raise fields.wrong("input", "must be a string or a list of items")
    return fields.objects("input")


_ITEMS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def _kind(item: Fields) -> str:
    """The type of an item, which messages and references may leave out."""
    if item.raw("type") is None:
        return "message" if item.raw("role") is not None else "item_reference" if item.raw("id") else item.kind(_ITEMS)
    return item.kind(_ITEMS)


_ITEM_ID = re.compile(r"[a-z]+_(.+)_(?:in)?[0-9]+")  # as `_item_id` and `input_items` make them


def references(body: dict[str, Any]) -> list[str]:
    """The ids of the items that `input` names instead of repeating them, in their order. What is wrong with them is for
    `to_chat` to say.
    """
    items = body.get("input")
    return [item["id"] for item in items if _is_reference(item)] if isinstance(items, list) else []


def response_of(item: str) -> str | None:
    """The id of the response that the item of the id *item* belongs to; None where it is no id of ours."""
    match = _ITEM_ID.fullmatch(item)
    return f"resp_{match[1]}" if match else None


def repeating(body: dict[str, Any], items: Mapping[str, Item]) -> dict[str, Any]:
    """*body* with what it refers to in its place, so far as *items* has it under its id."""
    repeated = [items.get(item["id"], item) if _is_reference(item) else item for item in body["input"]]
    return {**body, "input": repeated}


def _is_reference(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("id"), str)
        and (item.get("type") == "item_reference" or (item.get("type") is None and item.get("role") is None))
    )


def _add(conversation: Conversation, item: Fields, known: set[Any]) -> None:
    item.optional("id", str)
    match _kind(item):
        case "message":
            role = item.required("role", str)
            if role not in ("user", "assistant", "system", "developer"):
                raise item.wrong("role", "must be user, assistant, system or developer")
            conversation.say(role, _content(item, "content"))
        case "function_call":
            id, name = item.required("call_id", str), item.required("name", str)
            conversation.call(id, name, item.required("arguments", str))
        case "function_call_output":
            id = item.required("call_id", str)
            if not conversation.awaits(id):
                raise item.wrong("call_id", f"{id[:60]!r} answers no function_call before it")
            conversation.give(id, _content(item, "output"))
        case "reasoning":
            item.optional("encrypted_content", str)
            summary, content = _thoughts(item, "summary", "summary_text"), _thoughts(item, "content", "reasoning_text")
            if content or summary:
                conversation.think("\n\n".join(content or summary))
        case _:  # a reference; what it names is in the history, and so already said
            id = item.required("id", str)
            if id not in known:
                raise item.wrong("id", f"{id[:60]!r} is no item of a response of yours that was kept here")


def _thoughts(item: Fields, key: str, kind: str) -> list[str]:
    return [part.required("text", str) for part in item.objects(key) if part.kind((kind,))]


def _content(item: Fields, key: str) -> list[Part]:
    content = item.raw(key)
    if isinstance(content, str):
        return [text_part(content)]
    if not isinstance(content, list):
        raise item.wrong(key, "must be a string or a list of parts")
    return [_part(part, item.raw("role")) for part in item.objects(key)]


def _part(part: Fields, role: Any) -> Part:
    match part.kind(("input_text", "output_text", "refusal", "input_image", "input_file", "input_audio")):
        case "refusal" if role == "assistant":
            return text_part(part.required("refusal", str))
        case "input_text" | "output_text":
            return text_part(part.required("text", str))
        case kind if role not in ("user", None):
            raise part.wrong("type", f"{kind!r} cannot be of the role {str(role)[:60]!r}")
        case "input_image":
            if part.raw("image_url") is None:
                raise part.wrong("image_url", "is required: images by file_id are not available here")
            detail = part.one_of("detail", ("auto", "low", "high", "original"))
            return image_part(part.required("image_url", str), "high" if detail == "original" else detail)
        case "input_audio":
            audio = part.object("input_audio")
            if audio is None:
                raise part.wrong("input_audio", "is required")
            sound = {"data": audio.required("data", str), "format": audio.required("format", str)}
            return {"type": "input_audio", "input_audio": sound}
        case _:
            return text_part(_file_text(part))


def _file_text(part: Fields) -> str:
    """The text of a file that came in the request, under its name."""
    data = part.optional("file_data", str)
    if data is None:
        raise part.wrong("file_data", "is required: files by id or URL are not available here")
    head, comma, payload = data.partition(",")
    mime, *options = head.removeprefix("data:").split(";")
    if not (head.startswith("data:") and comma and (mime.startswith("text/") or mime in TEXT_TYPES)):
        raise part.wrong(
            "file_data", "must be a data URL of text, such as data:text/plain;base64,...: only text is read"
        )
    try:
        text = (b64decode(payload, validate=True) if "base64" in options else unquote_to_bytes(payload)).decode()
    except ValueError as error:
        raise part.wrong("file_data", "is not base64 of UTF-8 text") from error
    name = part.optional("filename", str)
    return f"{name}:\n{text}" if name else text


def input_items(body: dict[str, Any], *, id: str) -> list[Item]:
    """The items of the `input` of the request behind the response *id*, with ids, as its list of input items has them.
    References are left out: what they name is in the history.
    """
    items = [(place, item, _kind(item)) for place, item in enumerate(_input(Fields(body)))]
    return [
        {"id": f"{_PREFIXES[kind]}_{_seed(id)}_in{place}", "status": "completed", **_shaped(item, kind)}
        for place, item, kind in items
        if kind != "item_reference"
    ]


def items_of(body: dict[str, Any], response: dict[str, Any]) -> list[Item]:
    """What a response adds to the history of those that follow it."""
    return [*input_items(body, id=response["id"]), *response["output"]]


_COPIED = ("id", "role", "content", "call_id", "name", "arguments", "output", "summary", "encrypted_content")
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def _shaped(item: Fields, kind: str) -> Item:
    own = {"type": kind, **{key: item.raw(key) for key in _COPIED if item.raw(key) is not None}}
    match kind:
        case "message":
            return {**own, "content": _listed(item, "content")}
        case "function_call_output" if isinstance(own["output"], list):
            return {**own, "output": _listed(item, "output")}
        case "reasoning":
            return {"summary": [], **own}
        case _:
            return own


def _listed(item: Fields, key: str) -> list[Part]:
    """Content as a list of parts with the keys that they must have."""
    content = item.raw(key)
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    return [_listed_part(part, said=item.raw("role") == "assistant") for part in content]


def _listed_part(part: Part, *, said: bool) -> Part:
    match part["type"]:
        case "input_text" | "output_text" if said:
            return {"type": "output_text", "text": part["text"], "annotations": [], "logprobs": []}
        case "input_text" | "output_text":
            return {"type": "input_text", "text": part["text"]}
        case "input_image":
            return {"type": "input_image", "image_url": part["image_url"], "detail": part.get("detail") or "auto"}
        case "input_file":
            return {key: part[key] for key in ("type", "filename", "file_data") if part.get(key) is not None}
        case _:
            return part


def from_chat(
    document: dict[str, Any], asked: dict[str, Any], *, id: str, created: int, now: int | None = None
) -> dict[str, Any]:
    """The Response for a whole chat.completion. *asked*: the request's body, which `to_chat` has accepted."""
    stream = Stream(asked, id=id, created=created, model=str(document.get("model") or asked.get("model")))
    stream.feed(as_chunk(document))
    stream.end(usage_of(document), now)
    return stream.result()


@dataclass(frozen=True, slots=True)
class _Events:
    """How the events of one kind of block are named: `said` grows and is done, under the key `key`; `part` holds it in
    its item at the place `index`, or is None where the item itself does.
    """

    said: str
    key: str
    part: str | None = "response.content_part"
    part_type: str = ""
    index: str = "content_index"


_EVENTS = {
    Kind.TEXT: _Events("response.output_text", "text", part_type="output_text"),
    Kind.REFUSAL: _Events("response.refusal", "refusal", part_type="refusal"),
    Kind.REASONING: _Events("response.reasoning_text", "text", part_type="reasoning_text"),
    Kind.CALL: _Events("response.function_call_arguments", "arguments", part=None),
}
_SUMMARY_EVENTS = _Events(
    "response.reasoning_summary_text", "text", "response.reasoning_summary_part", "summary_text", "summary_index"
)


class Stream:
    """One answer as the events of a streamed Response. Reasoning is shown as it came (`reasoning_text`), or, where
    `reasoning.summary` was asked for, as a summary: that is where clients which ask look for it.
    """

    def __init__(self, asked: dict[str, Any], *, id: str, created: int, model: str) -> None:
        self._asked = asked
        self._id = id
        self._created = created
        self._model = model
        self._answer = Answer(_seed(id))
        self._summarised = bool((asked.get("reasoning") or {}).get("summary"))
        self._status = "in_progress"
        self._error: dict[str, Any] | None = None
        self._usage: Usage | None = None
        self._completed: int | None = None
        self._sequence = 0

    def begin(self) -> bytes:
        response = self.result()
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def feed(self, document: dict[str, Any]) -> bytes:
        return b"".join(event for step in self._answer.feed(document) for event in self._events(step))

    def end(self, usage: Usage | None, now: int | None = None) -> bytes:
        events = [event for step in self._answer.end() for event in self._events(step)]
        self._usage = usage
        self._status = "completed" if self._answer.whole else "incomplete"
        self._completed = now if self._answer.whole else None
        return b"".join([*events, self._event(f"response.{self._status}", response=self.result())])

    def fail(self, error: GatewayError) -> bytes:
        self._status = "failed"
        self._error = {"code": _failure_code(error.status), "message": error.message}
        told = self._event("error", code=error.code, message=error.message, param=error.param)
        return told + self._event("response.failed", response=self.result())

    def result(self) -> dict[str, Any]:
        asked = self._asked
        reasoning, text = asked.get("reasoning") or {}, asked.get("text") or {}
        cut = "content_filter" if self._answer.finish == "content_filter" else "max_output_tokens"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": self._completed,
            "status": self._status,
            "background": False,
            "error": self._error,
            "incomplete_details": {"reason": cut} if self._status == "incomplete" else None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": asked.get("max_tool_calls"),
            "metadata": asked.get("metadata") or {},
            "model": self._model,
            "output": [self._item(block) for block in self._answer.blocks],
            "parallel_tool_calls": _or(asked.get("parallel_tool_calls"), True),
            "presence_penalty": _or(asked.get("presence_penalty"), 0.0),
            "frequency_penalty": _or(asked.get("frequency_penalty"), 0.0),
            "previous_response_id": asked.get("previous_response_id"),
            "prompt": asked.get("prompt"),
            "prompt_cache_key": asked.get("prompt_cache_key"),
            "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
            "safety_identifier": asked.get("safety_identifier"),
            "service_tier": self._answer.service_tier or "default",
            "store": _or(asked.get("store"), True),
            "temperature": _or(asked.get("temperature"), 1.0),
            "text": {"format": _format_shown(text), "verbosity": text.get("verbosity") or "medium"},
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": [_tool_shown(tool) for tool in asked.get("tools") or []],
            "top_logprobs": asked.get("top_logprobs") or 0,
            "top_p": _or(asked.get("top_p"), 1.0),
            "truncation": "disabled",
            "usage": _usage(self._usage),
            "user": asked.get("user"),
        }

    def _event(self, type: str, **data: Any) -> bytes:
        told = named_event(type, sequence_number=self._sequence, **data)
        self._sequence += 1
        return told

    def _events(self, step: Step) -> Iterator[bytes]:
        block = step.block
        names = _SUMMARY_EVENTS if block.kind is Kind.REASONING and self._summarised else _EVENTS[block.kind]
        item = {"item_id": self._item_id(block), "output_index": block.place}
        at = item if names.part is None else {**item, names.index: 0}
        match step:
            case Opened():
                yield self._event("response.output_item.added", output_index=block.place, item=self._new_item(block))
                if names.part:
                    yield self._event(f"{names.part}.added", **at, part=_part_of(names, "", []))
            case Grew(_, text, logprobs):
                beside = {"logprobs": _logprobs(logprobs)} if block.kind is Kind.TEXT else {}
                yield self._event(f"{names.said}.delta", **at, delta=text, **beside)
            case Closed():
                beside = {"logprobs": _logprobs(block.logprobs)} if block.kind is Kind.TEXT else {}
                yield self._event(f"{names.said}.done", **at, **{names.key: block.text}, **beside)
                if names.part:
                    yield self._event(f"{names.part}.done", **at, part=_part_of(names, block.text, block.logprobs))
                yield self._event("response.output_item.done", output_index=block.place, item=self._item(block))

    def _item_id(self, block: Block) -> str:
        prefix = {Kind.REASONING: "rs", Kind.CALL: "fc"}.get(block.kind, "msg")
        return f"{prefix}_{_seed(self._id)}_{block.place}"

    def _new_item(self, block: Block) -> Item:
        """An item before anything is in it."""
        bare = self._item(Block(block.kind, block.place, block.id, block.name))
        lists: dict[str, list[Part]] = {key: [] for key in ("content", "summary") if key in bare}
        return {**bare, **lists, "status": "in_progress"}

    def _item(self, block: Block) -> Item:
        unfinished = "in_progress" if self._status == "in_progress" and self._answer.whole else "incomplete"
        item = {"id": self._item_id(block), "status": "completed" if block.whole else unfinished}
        match block.kind:
            case Kind.CALL:
                call = {"call_id": block.id, "name": block.name, "arguments": block.text}
                return {**item, "type": "function_call", **call}
            case Kind.REASONING if self._summarised:
                said = {"summary": [_part_of(_SUMMARY_EVENTS, block.text, [])], "content": []}
                return {**item, "type": "reasoning", **said, "encrypted_content": None}
            case Kind.REASONING:
                said = {"summary": [], "content": [_part_of(_EVENTS[block.kind], block.text, [])]}
                return {**item, "type": "reasoning", **said, "encrypted_content": None}
            case _:
                content = [_part_of(_EVENTS[block.kind], block.text, block.logprobs)]
                return {**item, "type": "message", "role": "assistant", "content": content}


def error_body(error: GatewayError, request_id: str | None = None) -> dict[str, Any]:
    """OpenAI's own error; the request id is in a header there."""
    return error.body()


def _seed(id: str) -> str:
    """What ids of the response's parts are made of: they need be unique, and the same when asked twice."""
    return id.partition("_")[2] or id


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _part_of(names: _Events, text: str, logprobs: list[dict[str, Any]]) -> Part:
    part: Part = {"type": names.part_type, names.key: text}
    if names.part_type == "output_text":
        part |= {"annotations": [], "logprobs": _logprobs(logprobs)}
    return part


def _logprobs(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat completions may have null for the bytes; here they are a list."""
    return [
        {**_logprob(entry), "top_logprobs": [_logprob(t) for t in entry.get("top_logprobs") or []]} for entry in entries
    ]


def _logprob(entry: dict[str, Any]) -> dict[str, Any]:
    token = str(entry.get("token"))
    return {"token": token, "bytes": entry.get("bytes") or list(token.encode()), "logprob": entry.get("logprob")}


def _tool_shown(tool: dict[str, Any]) -> dict[str, Any]:
    return {key: tool.get(key) for key in ("type", "name", "description", "parameters", "strict")}


def _format_shown(text: dict[str, Any]) -> dict[str, Any]:
    shown = text.get("format") or {"type": "text"}
    keys = ("type", "name", "description", "schema", "strict") if shown["type"] == "json_schema" else ("type",)
    return {key: shown.get(key) for key in keys}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _failure_code(status: int) -> str:
    """The protocol has few words for why a response failed."""
    return "rate_limit_exceeded" if status == 429 else "invalid_prompt" if status < 500 else "server_error"
