"""Calls of tools with models that are too small, or servers that are too lax, for them. No I/O.

A call that the request demands becomes a matter of JSON Schema, which the server's grammar holds the model to: asked
for `required`, llama.cpp lets the model say anything first, and a function's name it ignores. A call that the model
writes as bare JSON, without the marks of its chat template, is read from its text.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.engine import Call, EngineCut, EngineRefused, EngineUnavailable, Operation, Reply, Wrapped
from models.events import events_of, read, written

HELD_LIMIT_CHARACTERS = 160  # of a text that may become a call: by then a name of 64 characters must have been said
SCHEMA_NAME = "calls"

_BEGUN = re.compile(r'(?:```(?:json)?\s*)?\[?\s*\{+\s*"name"\s*:\s*"([^"]*)"')
_OPENING = re.compile(r"^\{+")  # Qwen2.5-Coder 1.5B doubles the outer braces as often as not
_BETWEEN = re.compile(r"[\s,;}]*")

Tools = Mapping[str, dict[str, Any]]  # functions by their name


@dataclass(frozen=True, slots=True)
class Written:
    """A call in a model's text; `arguments` is JSON."""

    name: str
    arguments: str


def tools_of(call: Call) -> Tools:
    """The functions that the model may call in its answer; none where several answers are wanted at once."""
    body = call.body
    if call.operation is not Operation.CHAT or body.get("tool_choice") == "none" or (body.get("n") or 1) > 1:
        return {}
    functions = [tool.get("function") for tool in body.get("tools") or () if isinstance(tool, dict)]
    return {f["name"]: f for f in functions if isinstance(f, dict) and isinstance(f.get("name"), str)}


def demanding(body: Mapping[str, Any], tools: Tools) -> Mapping[str, Any]:
    """*body* so that the model can but write the call which it demands; unchanged where it demands none.

    Raises EngineRefused for a function that is not among the tools.
    """
    choice = body.get("tool_choice")
    if choice == "required":
        among = tools
    elif isinstance(choice, dict) and choice.get("type") == "function":
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or name not in tools:
            raise EngineRefused(
                f"tool_choice names {str(name)[:64]!r}, which is not among the tools", status=400, param="tool_choice"
            )
        among = {name: tools[name]}
    else:
        return body
    wanted = {"name": SCHEMA_NAME, "strict": True, "schema": _schema(list(among.values()))}
    return {**body, "tool_choice": "none", "response_format": {"type": "json_schema", "json_schema": wanted}}


def _schema(functions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One call of one of *functions*. The parameters' own references begin at their root, which has moved."""
    definitions = {
        str(place): {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                "arguments": _moved(
                    function.get("parameters") or {"type": "object", "properties": {}},
                    f"#/$defs/{place}/properties/arguments",
                ),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for place, function in enumerate(functions)
    }
    return {"anyOf": [{"$ref": f"#/$defs/{place}"} for place in definitions], "$defs": definitions}


def _moved(schema: Any, root: str) -> Any:
    if isinstance(schema, list):
        return [_moved(inner, root) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, root)
        for key, value in schema.items()
    }


def written_calls(text: str, tools: Tools) -> list[Written]:
    """The calls that *text* consists of; none as soon as it says anything else."""
    rest = text.strip()
    if rest.startswith("```"):
        rest = rest.removeprefix("```").removeprefix("json").removesuffix("```").strip()
    rest = _OPENING.sub("{", rest)
    if not rest.startswith(("{", "[")):
        return []
    decoder, place, values = json.JSONDecoder(), 0, list[Any]()
    try:
        while place < len(rest):
            value, place = decoder.raw_decode(rest, place)
            values += value if isinstance(value, list) else [value]
            between = _BETWEEN.match(rest, place)
            place = between.end() if between else place
    except (ValueError, RecursionError):
        return []
    return [_call(value) for value in values] if all(_is_call(value, tools) for value in values) else []


def _is_call(value: Any, tools: Tools) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "arguments"}
        and isinstance(value["name"], str)
        and value["name"] in tools
        and isinstance(value["arguments"], dict)
    )


def _call(value: dict[str, Any]) -> Written:
    return Written(value["name"], json.dumps(value["arguments"], ensure_ascii=False, separators=(",", ":")))


def may_become_calls(text: str, tools: Tools) -> bool:
    """Could a text that begins so still turn out to be calls?"""
    begun = text.lstrip()
    if begun and not begun.startswith(("{", "[", "`")):
        return False
    match = _BEGUN.match(begun)
    return match[1] in tools if match else len(begun) <= HELD_LIMIT_CHARACTERS


class CallingReply(Wrapped):
    """The answer of *reply*, whose text is told as calls where it consists of them. Text that may yet become a call is
    held back until it does, or cannot any more.
    """

    @classmethod
    async def begin(cls, reply: Reply, call: Call, tools: Tools) -> "CallingReply":
        """Raises EngineUnavailable, since the client has seen nothing yet; *reply* is closed then."""
        several = call.body.get("parallel_tool_calls") is not False
        calling = cls(reply, _Events(tools, several=several) if call.stream else None)
        try:
            calling.first = await calling._next(reply.first) if call.stream else _told(reply.first, tools, several)
        except EngineCut as error:
            await reply.close()
            raise EngineUnavailable(error.message) from error
        except BaseException:
            await reply.close()
            raise
        return calling

    def __init__(self, reply: Reply, events: "_Events | None") -> None:
        super().__init__(reply, b"")
        self._events = events

    async def more(self) -> bytes:
        return b"" if self._events is None else await self._next(await self._reply.more())

    async def _next(self, block: bytes) -> bytes:
        """What *block* and those behind it make, up to the first that makes anything."""
        assert self._events is not None
        while block:
            told = self._events.feed(block)
            if told:
                return told
            block = await self._reply.more()
        return self._events.take_held()


def _told(document: bytes, tools: Tools, several: bool) -> bytes:
    answer = orjson.loads(document)
    choice = answer["choices"][0]
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    calls = written_calls(text, tools) if isinstance(text, str) and not message.get("tool_calls") else []
    if not calls:
        return document
    choice["message"] = {**message, "content": None, "tool_calls": _tool_calls(calls, several)}
    choice["finish_reason"] = "tool_calls"
    return orjson.dumps(answer)


def _tool_calls(calls: Sequence[Written], several: bool) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in (calls if several else calls[:1])
    ]


class _Events:
    """Blocks of a streamed answer in and out. Once the text cannot become a call, blocks pass unread."""

    def __init__(self, tools: Tools, *, several: bool) -> None:
        self._tools = tools
        self._several = several
        self._text = ""
        self._held: list[bytes] = []
        self._passing = False

    def feed(self, block: bytes) -> bytes:
        if self._passing:
            return block
        return b"".join(map(self._event, events_of(block)))

    def take_held(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held

    def _event(self, event: bytes) -> bytes:
        if self._passing:
            return event
        document = read(event)
        choice = (document.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        self._text += text
        if delta.get("tool_calls") or not may_become_calls(self._text, self._tools):
            self._passing = True
            return self.take_held() + event
        if choice.get("finish_reason"):
            return self._finished(event, document, choice)
        if text:
            self._held.append(event)
            return b""
        return event

    def _finished(self, event: bytes, document: dict[str, Any], choice: dict[str, Any]) -> bytes:
        self._passing = True
        calls = written_calls(self._text, self._tools)
        if not calls:
            return self.take_held() + event
        self._held = []
        told = [{"index": place, **call} for place, call in enumerate(_tool_calls(calls, self._several))]
        said = {**choice, "delta": {"tool_calls": told}, "finish_reason": None}
        last = {**choice, "delta": {}, "finish_reason": "tool_calls"}
        return b"".join(written({**document, "choices": [choices]}) for choices in (said, last))
