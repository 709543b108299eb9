"""Calls any server that speaks OpenAI's chat completions over HTTP. Knows the wire, not who started the server."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import aiohttp
import orjson

from models.engine import (
    Call,
    Chunk,
    ContextTooLong,
    EngineBusy,
    EngineCut,
    EngineError,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Health,
    Usage,
)
from models.sse import EventSplitter, EventTooLong

CONNECT_TIMEOUT_SECONDS = 5.0  # loopback or one data centre: a slower connect means nobody is there
FIRST_CHUNK_TIMEOUT_SECONDS = 600.0  # from the call on; 8,192 prompt tokens at 20 tokens/s on a CPU are seven minutes
IDLE_TIMEOUT_SECONDS = 120.0  # between two chunks; an engine that is alive writes several a second
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024  # not streamed; 8 choices of 4,096 tokens with 20 logprobs each are near 50 MB
ERROR_BODY_LIMIT_BYTES = 64 * 1024
MESSAGE_LIMIT_CHARACTERS = 500
TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
TOO_LONG_PHRASES = ("maximum context length", "maximum model length")  # vLLM gives no code of its own


def new_session() -> aiohttp.ClientSession:
    """The connection pool that all HTTP engines of a process share. Call inside a running event loop."""
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    return aiohttp.ClientSession(
        trace_configs=[tracing],
        connector=aiohttp.TCPConnector(limit=0),  # each engine limits its own concurrency
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


@dataclass(slots=True)
class _Attempt:
    """Whether a request went out over a pooled connection, which its server may have closed a moment before."""

    reused_connection: bool = False


async def _note_reuse(session: object, context: SimpleNamespace, params: object) -> None:
    if isinstance(context.trace_request_ctx, _Attempt):
        context.trace_request_ctx.reused_connection = True


class OpenAIUpstream:
    """An Engine over HTTP. *extra_body* asks the server for running counts, so that a cut answer can be charged."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        model: str,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self._session = session
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._model = model
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._extra_body = dict(extra_body or {})
        self._insides = _insides(base_url, api_key)

    async def start(self) -> None:
        """Nothing to start: somebody else runs the server."""

    async def stop(self) -> None:
        """Nothing to stop: the session belongs to whoever made it."""

    def health(self) -> Health:
        return Health(EngineState.READY)

    async def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        body = self._written(call)
        deadline = asyncio.get_running_loop().time() + FIRST_CHUNK_TIMEOUT_SECONDS
        begun = False
        try:
            async with self._post(body, deadline) as response:
                if response.status != 200:
                    raise await self._error_of(response)
                async with aclosing((_events if call.stream else _whole)(response, deadline)) as documents:
                    async for document in documents:
                        chunk = self._chunk(document)
                        begun = True
                        yield chunk
            if not begun:
                raise EngineUnavailable("the engine ended its answer before its first token")
        except EngineError:
            raise
        except _Broken as error:
            raise (EngineCut if begun else EngineUnavailable)(str(error)) from error
        except (aiohttp.ClientError, OSError, TimeoutError, EventTooLong, orjson.JSONDecodeError) as error:
            if begun:
                raise EngineCut("the engine broke off in the middle of its answer") from error
            raise EngineUnavailable("the engine could not be reached or failed before its first token") from error

    def _written(self, call: Call) -> bytes:
        body = {**call.body, **self._extra_body, "model": self._model, "stream": call.stream}
        if call.stream:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:  # what orjson reads may be nested 1,024 levels deep, what it writes 254
            raise EngineRefused("the request is nested too deeply to be passed on", status=400) from error

    @asynccontextmanager
    async def _post(self, body: bytes, deadline: float) -> AsyncIterator[aiohttp.ClientResponse]:
        async with asyncio.timeout_at(deadline):
            attempt = _Attempt()
            try:
                response = await self._send(body, attempt)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not attempt.reused_connection:
                    raise
                response = await self._send(body, attempt)  # the server had closed the pooled connection meanwhile
        finished = False
        try:
            yield response
            finished = True
        finally:
            if finished:
                response.release()
            else:
                response.close()  # closing the connection is how the server learns that nobody listens

    async def _send(self, body: bytes, attempt: "_Attempt") -> aiohttp.ClientResponse:
        return await self._session.post(
            self._url,
            data=body,
            headers=self._headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),
            trace_request_ctx=attempt,
        )

    def _chunk(self, document: dict[str, Any]) -> Chunk:
        if document.get("error") is not None:  # with status 200: the server found out too late to say it otherwise
            raise _Broken(self._message(document, "the engine reported an error instead of an answer"))
        timings = document.pop("timings", None)
        usage = _usage(document.get("usage"))
        if not isinstance(timings, dict):
            return Chunk(document, usage)
        return Chunk(document, usage or _counted(timings), _engine_seconds(timings))

    async def _error_of(self, response: aiohttp.ClientResponse) -> EngineError:
        """Turn a non-200 answer into the error that says what may be done about it."""
        if response.status in (429, 503):
            return EngineBusy("the engine is busy", retry_after_seconds=_retry_after(response))
        if response.status in (401, 403):
            return EngineUnavailable("the engine refused the gateway's credentials")
        if not 400 <= response.status < 500:  # a redirect is not followed: it would carry the key to another server
            return EngineUnavailable("the engine failed")
        async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
            raw = await _read(response, ERROR_BODY_LIMIT_BYTES)
        return self._refusal(response.status, raw)

    def _refusal(self, status: int, raw: bytes) -> EngineRefused:
        try:
            document = _object(raw)
        except (orjson.JSONDecodeError, _Broken):
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


def _insides(base_url: str, api_key: str | None) -> re.Pattern[str]:
    url = urlsplit(base_url)
    insides = {base_url.rstrip("/"), url.netloc, url.hostname or "", api_key or ""} - {""}
    return re.compile("|".join(re.escape(inside) for inside in sorted(insides, key=len, reverse=True)), re.IGNORECASE)


async def _events(response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[dict[str, Any], None]:
    splitter = EventSplitter()
    pieces = response.content.iter_any()
    clock = asyncio.get_running_loop().time
    while True:
        async with asyncio.timeout_at(deadline):  # comments do not move it: they keep a connection, not an answer
            piece = await anext(pieces, None)
        if piece is None:
            raise _Broken("the engine closed the stream before its end")
        for payload in splitter.feed(piece):
            if payload == b"[DONE]":
                return
            yield _object(payload)
            deadline = clock() + IDLE_TIMEOUT_SECONDS


async def _whole(response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[dict[str, Any], None]:
    async with asyncio.timeout_at(deadline):
        raw = await _read(response, ANSWER_LIMIT_BYTES + 1)
    if len(raw) > ANSWER_LIMIT_BYTES:
        raise _Broken(f"the engine's answer is longer than {ANSWER_LIMIT_BYTES} bytes")
    document = _object(raw)
    if not (document.get("choices") or document.get("error")):
        raise _Broken("the engine's answer has no choices")
    yield document


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The body, cut at *limit_bytes*. One `content.read(n)` may return less: what has arrived so far."""
    body = bytearray()
    while len(body) < limit_bytes and (piece := await response.content.read(limit_bytes - len(body))):
        body += piece
    return bytes(body)


def _object(payload: bytes) -> dict[str, Any]:
    document = orjson.loads(payload)
    if not isinstance(document, dict):
        raise _Broken("the engine answered with something that is not a JSON object")
    return document


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return _checked(usage.get("prompt_tokens"), usage.get("completion_tokens"), cached)


def _counted(timings: Mapping[str, Any]) -> Usage | None:
    """llama.cpp's running counts, on every chunk when asked with `timings_per_token`."""
    cached, fresh = timings.get("cache_n"), timings.get("prompt_n")
    prompt = cached + fresh if _is_count(cached) and _is_count(fresh) else None
    return _checked(prompt, timings.get("predicted_n"), cached)


def _checked(prompt: Any, completion: Any, cached: Any) -> Usage | None:
    """None unless both counts are counts: unknown is not zero. Cached tokens are never more than the prompt's."""
    if not (_is_count(prompt) and _is_count(completion)):
        return None
    return Usage(prompt, completion, min(cached, prompt) if _is_count(cached) else 0)


def _engine_seconds(timings: Mapping[str, Any]) -> float | None:
    prompt_ms, predicted_ms = timings.get("prompt_ms"), timings.get("predicted_ms")
    if not (_is_duration(prompt_ms) and _is_duration(predicted_ms)):
        return None
    return prompt_ms / 1000 + predicted_ms / 1000


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0  # a bool is no count


def _is_duration(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and value >= 0


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """None for a date or nonsense: whoever waits then chooses."""
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None
