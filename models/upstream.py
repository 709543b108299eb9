"""Calls any server that speaks OpenAI's protocol over HTTP. Knows the wire, not who started the server.

An answer's bytes are passed on as they come; JSON is read only where something in it is needed.
"""

import math
import re
from collections.abc import Mapping
from time import monotonic
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import orjson

from models.engine import (
    Call,
    ContextTooLong,
    EngineBusy,
    EngineCut,
    EngineError,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Health,
    Operation,
    Reply,
    Usage,
    Whole,
)
from models.events import written
from models.http import HttpError, Origin, Response, TooLong
from models.sse import EventSplitter, EventTooLong

CONNECT_TIMEOUT_SECONDS = 5.0  # loopback or one data centre: a slower connect means nobody is there
FIRST_CHUNK_TIMEOUT_SECONDS = 600.0  # from the call on; 8,192 prompt tokens at 20 tokens/s on a CPU are seven minutes
IDLE_TIMEOUT_SECONDS = 120.0  # between two blocks; an engine that is alive writes several a second
LAST_BYTES_TIMEOUT_SECONDS = 0.1  # after [DONE], for the end of the body; then the connection is not used again
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024  # not streamed; 8 choices of 4,096 tokens with 20 logprobs each are near 50 MB
ERROR_BODY_LIMIT_BYTES = 64 * 1024
HELD_LIMIT_BYTES = 16 * 1024  # of an event that has not ended; a longer one goes to the splitter, linear in the bytes
MESSAGE_LIMIT_CHARACTERS = 500
TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
TOO_LONG_PHRASES = ("maximum context length", "maximum model length")  # vLLM gives no code of its own

DONE = b"[DONE]"
# Inside a JSON string every quote is escaped, so these match keys only, never what a model wrote.
COUNTS = re.compile(rb',\s*"(?:timings|usage)"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
NO_COUNTS = re.compile(rb',\s*"usage"\s*:\s*null')
MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
SPECIAL = re.compile(rb'"choices"\s*:\s*\[\s*\]|\[DONE\]|"error"')  # counts alone, the end, a failure
ANSWER_KEYS = {
    Operation.CHAT: "choices",
    Operation.COMPLETION: "choices",
    Operation.EMBEDDING: "data",
    Operation.COUNT: "input_tokens",
}

# What asks a server to count as it goes, by the way in which it does.
RUNNING_COUNTS: Mapping[str, Mapping[str, Any]] = {
    "last": {},
    "vllm": {"stream_options": {"continuous_usage_stats": True}},
    "llamacpp": {"timings_per_token": True},
}


class OpenAIUpstream:
    """An Engine over HTTP. *name* is the model's in the catalogue, *model* the server's. *extra_body* goes into every
    call, *running_counts* into streamed ones: what asks the server to count as it goes, so that a cut answer can be
    charged.
    """

    def __init__(
        self,
        *,
        base_url: str,
        name: str,
        model: str | None = None,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        running_counts: Mapping[str, Any] | None = None,
    ) -> None:
        headers = {"content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._origin = Origin(base_url, headers=headers, connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS)
        self.name = name
        self._model = model or name
        self._extra_body = dict(extra_body or {})
        self._running_counts = dict(running_counts or {})
        self._insides = insides_of(base_url, api_key)

    async def start(self) -> None:
        """Nothing to start: somebody else runs the server."""

    async def stop(self) -> None:
        await self._origin.close()

    def health(self) -> Health:
        return Health(EngineState.READY)

    async def begin(self, call: Call) -> Reply:
        body = self._written(call)
        deadline = monotonic() + FIRST_CHUNK_TIMEOUT_SECONDS
        try:
            response = await self._origin.request(
                "POST",
                call.operation,
                body,
                headers=call.headers,
                timeout_seconds=FIRST_CHUNK_TIMEOUT_SECONDS,
                at_once=call.stream,  # somebody waits for its first word
            )
        except HttpError as error:
            raise EngineUnavailable("the engine could not be reached or failed before its first token") from error
        try:
            if response.status != 200:
                raise await self._error_of(response)
            return await (self._streamed if call.stream else self._whole)(response, call, deadline)
        except BaseException:
            response.close()  # closing the connection is how the server learns that nobody listens
            raise

    def _written(self, call: Call) -> bytes:
        body = {**call.body, **self._extra_body, "model": self._model}
        if call.operation in (Operation.CHAT, Operation.COMPLETION):
            body["stream"] = call.stream
        if call.stream:
            body.update(self._running_counts)
            options = {**(body.get("stream_options") or {}), "include_usage": True}
            body["stream_options"] = {**options, **self._running_counts.get("stream_options", {})}
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:  # what orjson reads may be nested 1,024 levels deep, what it writes 254
            raise EngineRefused("the request is nested too deeply to be passed on", status=400) from error

    async def _streamed(self, response: Response, call: Call, deadline: float) -> Reply:
        events = _Events(self, include_usage=call.include_usage)
        reply = _StreamedReply(response, events)
        try:
            await reply.wait_for_first(deadline)
        except _Broken as error:
            raise EngineUnavailable(str(error)) from error
        except (HttpError, EventTooLong, orjson.JSONDecodeError) as error:
            raise EngineUnavailable("the engine failed before its first token") from error
        if not reply.first:
            raise EngineUnavailable("the engine ended its answer before its first token")
        return reply

    async def _whole(self, response: Response, call: Call, deadline: float) -> Reply:
        try:
            left_seconds = deadline - monotonic()
            raw = await response.read_all(ANSWER_LIMIT_BYTES, max(left_seconds, 0.0))
            document = self.checked(raw)
            if not document.get(ANSWER_KEYS[call.operation]):
                raise _Broken(f"the engine's answer has no {ANSWER_KEYS[call.operation]}")
        except (_Broken, TooLong) as error:
            raise EngineUnavailable(f"the engine's answer cannot be used: {error}") from error
        except (HttpError, orjson.JSONDecodeError) as error:
            raise EngineUnavailable("the engine failed before its first token") from error
        timings = document.pop("timings", None)
        counted = _Counted.of(document.get("usage"), timings, call.operation)
        answer = self.named(raw, document, changed=timings is not None)
        reply = Whole(answer, counted.usage, counted.engine_seconds)
        reply.when_closed(response.close)
        return reply

    def named(self, raw: bytes, document: dict[str, Any], *, changed: bool) -> bytes:
        """The document under the catalogue's name of the model; written anew only where replacing is not sure."""
        written = document.get("model")
        if written == self.name and not changed:
            return raw
        found = MODEL.findall(raw)
        if len(found) == 1 and isinstance(written, str) and not changed:
            return raw.replace(found[0], self.model_field, 1)
        document["model"] = self.name
        return orjson.dumps(document)

    @property
    def model_field(self) -> bytes:
        return b'"model":' + orjson.dumps(self.name)

    def checked(self, payload: bytes) -> dict[str, Any]:
        """The JSON object in *payload*. Raises _Broken when it is none, or says that the engine failed."""
        document = orjson.loads(payload)
        if not isinstance(document, dict):
            raise _Broken("the engine answered with something that is not a JSON object")
        if document.get("error") is not None:  # with status 200: the server found out too late to say it otherwise
            raise _Broken(self._message(document, "the engine reported an error instead of an answer"))
        return document

    async def _error_of(self, response: Response) -> EngineError:
        """Turn a non-200 answer into the error that says what may be done about it."""
        if response.status in (429, 503):
            return EngineBusy("the engine is busy", retry_after_seconds=retry_after_seconds(response.headers))
        if response.status in (401, 403):
            return EngineUnavailable("the engine refused the gateway's credentials")
        if not 400 <= response.status < 500:  # a redirect is not followed: it would carry the key to another server
            return EngineUnavailable("the engine failed")
        try:
            raw = await _cut_body(response)
        except HttpError:
            return EngineUnavailable("the engine broke off while it said what is wrong")
        return self._refusal(response.status, raw)

    def _refusal(self, status: int, raw: bytes) -> EngineRefused:
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            document = {}
        error = document.get("error")
        details = error if isinstance(error, dict) else document  # older vLLM: no wrapper
        message = self._message(document, "the engine refused the request")
        kinds = [kind for kind in (details.get("code"), details.get("type")) if isinstance(kind, str)]
        if TOO_LONG_CODES.intersection(kinds) or any(phrase in message for phrase in TOO_LONG_PHRASES):
            return ContextTooLong(message)
        code, param = details.get("code"), details.get("param")
        return EngineRefused(
            message,
            status=status,
            code=self._shown(code) if isinstance(code, str) else None,
            param=self._shown(param) if isinstance(param, str) else None,
        )

    def _message(self, document: Mapping[str, Any], otherwise: str) -> str:
        error = document.get("error", document)
        message = error.get("message") if isinstance(error, dict) else error
        return self._shown(message) if isinstance(message, str) and message else otherwise

    def _shown(self, text: str) -> str:
        """What a client may read of an engine's words: engines quote their own address, and proxies the key."""
        return self._insides.sub("[hidden]", text)[:MESSAGE_LIMIT_CHARACTERS]


class _Broken(Exception):
    """What the server sent is no answer. The text may be shown to a client."""


class _Counted:
    """Tokens and seconds as a server wrote them, in OpenAI's `usage` or llama.cpp's `timings`."""

    __slots__ = ("engine_seconds", "usage")

    def __init__(self, usage: Usage | None = None, engine_seconds: float | None = None) -> None:
        self.usage = usage
        self.engine_seconds = engine_seconds

    @classmethod
    def of(cls, usage: Any, timings: Any, operation: Operation = Operation.CHAT) -> "_Counted":
        if not isinstance(timings, dict):
            timings = {}
        return cls(usage_of(usage, operation) or _counted(timings), _engine_seconds(timings))

    def updated(self, newer: "_Counted") -> "_Counted":
        seconds = newer.engine_seconds if newer.engine_seconds is not None else self.engine_seconds
        return _Counted(newer.usage or self.usage, seconds)


class _StreamedReply(Reply):
    def __init__(self, response: Response, events: "_Events") -> None:
        super().__init__(b"")
        self._response = response
        self._events = events

    @property
    def usage(self) -> Usage | None:
        return self._events.counted().usage

    @property
    def engine_seconds(self) -> float | None:
        return self._events.counted().engine_seconds

    async def wait_for_first(self, deadline: float) -> None:
        self.first = await self._next(deadline)

    async def more(self) -> bytes:
        try:
            return await self._next(monotonic() + IDLE_TIMEOUT_SECONDS)
        except _Broken as error:
            raise EngineCut(str(error)) from error
        except (HttpError, EventTooLong, orjson.JSONDecodeError) as error:
            raise EngineCut("the engine broke off in the middle of its answer") from error

    async def _next(self, deadline: float) -> bytes:
        """The next block. Comments do not move the deadline: they keep a connection, not an answer."""
        events = self._events
        while not events.done:
            if events.failure is not None:
                raise events.failure
            piece = await self._response.read(max(deadline - monotonic(), 0.0))
            if not piece:
                raise _Broken("the engine closed the stream before its end")
            block = events.feed(piece)
            if block:
                return block
        return events.take_rest()

    async def _stop(self) -> None:
        try:
            if self._events.done and await self._response.read(LAST_BYTES_TIMEOUT_SECONDS):
                pass  # garbage after the end: the connection is given up below
        except HttpError:
            pass
        finally:
            self._response.close()


class _Events:
    """Pieces of an event stream in, blocks for the client out (see `Reply`).

    A piece in the normal form that servers write, `data: {...}\\n\\n`, is checked by counting and passed on whole; one
    that may hold anything else (comments, CRLF, counts alone, errors, the end) is taken apart event by event.
    """

    def __init__(self, upstream: OpenAIUpstream, *, include_usage: bool) -> None:
        self.done = False
        self.failure: _Broken | orjson.JSONDecodeError | None = None  # what comes after the blocks so far is broken
        self._upstream = upstream
        self._include_usage = include_usage
        self._splitter: EventSplitter | None = None  # from the first piece on that is not in normal form
        self._rest = b""
        self._model: tuple[bytes, bytes] | None = None  # what the server writes, what the client is to read
        self._every_event = False  # events without a model's name get one, each
        self._running = b""  # the newest counts, not read yet
        self._counted = _Counted()
        self._last_event = b""

    def feed(self, piece: bytes) -> bytes:
        """What *piece* completes; empty when nothing. Raises EventTooLong."""
        if self._splitter is not None:
            return self._apart(self._splitter.feed(piece))
        data = self._rest + piece if self._rest else piece
        end = data.rfind(b"\n\n") + 2
        if b"\r" in data or len(data) - end > HELD_LIMIT_BYTES:
            self._splitter, self._rest = EventSplitter(), b""
            return self._apart(self._splitter.feed(data))
        if end == 1:
            self._rest = data
            return b""
        self._rest = data[end:]
        return self._passed_on(data[:end])

    def take_rest(self) -> bytes:
        """The counts, in an event of their own, if the client asked for them; once."""
        last, self._last_event = self._last_event, b""
        return last

    def counted(self) -> _Counted:
        if self._running:
            document = orjson.loads(self._running)
            self._counted = self._counted.updated(_Counted.of(document, document))
            self._running = b""
        return self._counted

    def _cleaned(self, block: bytes) -> bytes:
        """A block in normal form: counts taken out, the model named as the catalogue does."""
        if b'"timings"' in block or b'"usage"' in block:
            found = COUNTS.findall(block)
            if found:
                self._running = found[-1]
                block = COUNTS.sub(b"", block)
            if not self._include_usage:
                block = NO_COUNTS.sub(b"", block)
        assert self._model is not None
        written, wanted = self._model
        return block if written == wanted else block.replace(written, wanted)

    def _passed_on(self, block: bytes) -> bytes:
        """Whole events: the first of a stream is taken apart, to learn how this server writes, and what is special."""
        passed = b""
        if self._model is None:
            cut = block.find(b"\n\n") + 2
            passed, block = self._apart(EventSplitter().feed(block[:cut])), block[cut:]
        if not block or self.done or self.failure is not None:
            return passed
        if self._every_event or self._model is None:
            return passed + self._apart(EventSplitter().feed(block))
        special = SPECIAL.search(block)
        cut = block.rfind(b"\n\n", 0, special.start()) + 2 if special else len(block)
        if cut > 1 and _is_normal(block[:cut]):
            passed, block = passed + self._cleaned(block[:cut]), block[cut:]
        return passed + self._apart(EventSplitter().feed(block))

    def _apart(self, payloads: list[bytes]) -> bytes:
        """The events of *payloads*. What comes before something broken is passed on; the next call raises."""
        events: list[bytes] = []
        for payload in payloads:
            if payload == DONE:
                self.done = True
                break
            try:
                events.append(self._event(self._upstream.checked(payload), payload))
            except (_Broken, orjson.JSONDecodeError) as error:
                self.failure = error
                break
        return b"".join(events)

    def _event(self, document: dict[str, Any], payload: bytes) -> bytes:
        usage, timings = document.get("usage"), document.pop("timings", None)
        self._counted = self.counted().updated(_Counted.of(usage, timings))
        if self._model is None:
            self._learn_model(payload)
        document["model"] = self._upstream.name
        if not document.get("choices") and isinstance(usage, dict):
            self._last_event = written(document) if self._include_usage else b""
            return b""
        if isinstance(usage, dict) or not self._include_usage:
            document.pop("usage", None)
        if self._include_usage and isinstance(usage, dict):  # counts beside content: the protocol wants them apart
            self._last_event = written({**document, "choices": [], "usage": usage})
        return written(document)

    def _learn_model(self, payload: bytes) -> None:
        found = MODEL.findall(payload)
        self._every_event = len(found) != 1
        self._model = (found[0] if found else b"", self._upstream.model_field)


def _is_normal(block: bytes) -> bool:
    """Whole events, each one line that begins and ends as a JSON object does."""
    return (
        block.startswith(b"data: {")
        and block.endswith(b"}\n\n")
        and block.count(b"\n") == 2 + 2 * block.count(b"}\n\ndata: {")
    )


async def _cut_body(response: Response) -> bytes:
    """The body, cut at ERROR_BODY_LIMIT_BYTES. Raises HttpError."""
    body = bytearray()
    while len(body) < ERROR_BODY_LIMIT_BYTES and (piece := await response.read(IDLE_TIMEOUT_SECONDS)):
        body += piece
    return bytes(body[:ERROR_BODY_LIMIT_BYTES])


def insides_of(base_url: str | None, api_key: str | None, *patterns: str) -> re.Pattern[str]:
    """What no client may read of a server: its address, its key, and what looks like one of *patterns*."""
    url = urlsplit(base_url or "")
    insides = {(base_url or "").rstrip("/"), url.netloc, url.hostname or "", api_key or ""} - {""}
    longest_first = map(re.escape, sorted(insides, key=len, reverse=True))
    return re.compile("|".join([*longest_first, *patterns]), re.IGNORECASE)


def usage_of(usage: Any, operation: Operation = Operation.CHAT) -> Usage | None:
    """OpenAI's `usage`; None where a count is missing or is none."""
    if not isinstance(usage, dict):
        return None
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    completion = 0 if operation is Operation.EMBEDDING else usage.get("completion_tokens")
    return _checked(usage.get("prompt_tokens"), completion, cached, reasoning)


def _detail(usage: Mapping[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return details.get(name) if isinstance(details, dict) else None


def _counted(timings: Mapping[str, Any]) -> Usage | None:
    """llama.cpp's running counts, on every chunk when asked with `timings_per_token`."""
    cached, fresh = timings.get("cache_n"), timings.get("prompt_n")
    prompt = cached + fresh if _is_count(cached) and _is_count(fresh) else None
    return _checked(prompt, timings.get("predicted_n"), cached)


def _checked(prompt: Any, completion: Any, cached: Any, reasoning: Any = None) -> Usage | None:
    """None unless both counts are counts: unknown is not zero. A part is never more than its whole."""
    if not (_is_count(prompt) and _is_count(completion)):
        return None
    return Usage(
        prompt,
        completion,
        min(cached, prompt) if _is_count(cached) else 0,
        min(reasoning, completion) if _is_count(reasoning) else 0,
    )


def _engine_seconds(timings: Mapping[str, Any]) -> float | None:
    prompt_ms, predicted_ms = timings.get("prompt_ms"), timings.get("predicted_ms")
    if not (_is_duration(prompt_ms) and _is_duration(predicted_ms)):
        return None
    return prompt_ms / 1000 + predicted_ms / 1000


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0  # a bool is no count


def _is_duration(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and value >= 0


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """None for a date or nonsense: whoever waits then chooses."""
    try:
        seconds = float(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None
