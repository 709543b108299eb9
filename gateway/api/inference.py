"""An endpoint that calls a model: a body in, an answer's blocks out as events or one JSON document.

How its body is read and how its answers are worded are its own; the way in between is the same for all.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import Receive, Send

from gateway.api.once import IDEMPOTENCY_KEY, once
from gateway.api.voices import Voice
from gateway.client import leaving_stops, read_body
from gateway.completion import Answer, begin
from gateway.errors import Cut, GatewayError, Internal, InvalidRequest, of_engine
from gateway.held import Held
from gateway.ledger.charge import Outcome
from gateway.limits.headers import ratelimit_headers
from gateway.schema import Asked
from models.engine import EngineError
from router.check import Check
from router.decision import Decision
from router.opinion import SecondOpinion

log = structlog.get_logger(__name__)

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
KEEP_ALIVE = b": the engine is thinking\n\n"
HEADER_LIMIT_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path. `read` raises GatewayError."""

    operation: str  # in the ledger
    read: Callable[[Held, bytes], Awaitable[tuple[Asked, Voice]]]
    summary: str
    body_schema: Callable[[], dict[str, Any]]
    names_prompts: bool = False  # whether `read` takes one of the library

    async def answer(self, held: Held, receive: Receive, send: Send) -> None:
        """Raises GatewayError before the first byte, ClientGone at any time."""
        raw = await read_body(receive)
        if IDEMPOTENCY_KEY in held.headers:
            await once(held, raw, send, lambda to: self._answer(held, raw, receive, to))
        else:
            await self._answer(held, raw, receive, send)

    async def _answer(self, held: Held, raw: bytes, receive: Receive, send: Send) -> None:
        asked, voice = await self.read(held, raw)
        if asked.stream and IDEMPOTENCY_KEY in held.headers:
            raise InvalidRequest("an Idempotency-Key is for answers that are not streamed", param="stream")
        held.charged.asked(asked.name, streamed=asked.stream)
        with leaving_stops(receive):
            await (_Stream(held, asked, voice, send).run() if asked.stream else _whole(held, asked, voice, send))


async def _whole(held: Held, asked: Asked, voice: Voice, send: Send) -> None:
    try:
        answer = await begin(held, asked)
    except EngineError as error:
        raise of_engine(error) from error
    try:
        body = await voice.whole(answer.reply.first)
        held.charged.close(Outcome.OK, 200)
        limits = _limit_headers(held)
        await held.settle()
        headers = [
            (b"content-type", JSON),
            (b"content-length", str(len(body)).encode()),
            *_headers(answer.decision, answer),
            *limits,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    finally:
        await answer.reply.close()


class _Stream:
    """Sends the blocks as they come, and comments while there are none; closes the tab before the last byte."""

    def __init__(self, held: Held, asked: Asked, voice: Voice, send: Send) -> None:
        self._held = held
        self._asked = asked
        self._voice = voice
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._started = False
        self._sent_at = self._loop.time()
        self._commenting: asyncio.Task[None] | None = None
        self._keepalive_seconds = held.runtime.settings.keepalive_seconds
        self._timer = self._loop.call_later(self._keepalive_seconds, self._on_time)

    async def run(self) -> None:
        """Raises GatewayError before the first byte."""
        try:
            await self._run()
        finally:
            self._timer.cancel()
            if self._commenting is not None:
                self._commenting.cancel()

    async def _run(self) -> None:
        try:
            answer = await begin(self._held, self._asked)
        except (EngineError, GatewayError) as problem:
            error = of_engine(problem) if isinstance(problem, EngineError) else problem
            if not self._started:
                raise error from problem
            await self._fail(error)
            return
        try:
            await self._pass_on(answer)
        except EngineError as problem:
            await self._fail(Cut(problem.message))
        except Exception:  # the status line is sent: only this stream can still tell the client
            log.exception("failed in the middle of an answer", request_id=self._held.request_id)
            await self._fail(Internal(f"the gateway failed; the operator finds it under {self._held.request_id}"))
        finally:
            await answer.reply.close()

    async def _pass_on(self, answer: Answer) -> None:
        reply, voice = answer.reply, self._voice
        if self._commenting is not None:  # nothing may overtake the head that it sends
            await asyncio.wait({self._commenting})
        if not self._started:
            await self._start([*_headers(answer.decision, answer), *_limit_headers(self._held)])
        block = voice.opening(answer.model.name) + voice.block(reply.first)
        while True:
            self._sent_at = self._loop.time()
            if block:
                await self._send({"type": "http.response.body", "body": block, "more_body": True})
            engines = await reply.more()
            if not engines:
                break
            block = voice.block(engines)
        ending = await voice.closing(reply.usage)
        self._held.charged.close(Outcome.OK, 200)
        await self._held.settle()
        await self._send({"type": "http.response.body", "body": ending, "more_body": False})

    async def _start(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._started = True
        headers = [(b"content-type", EVENT_STREAM), (b"cache-control", b"no-store"), *headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _fail(self, error: GatewayError) -> None:
        self._held.charged.close(Outcome.CUT, 200, error.code)
        await self._held.settle()
        if self._commenting is not None:
            await asyncio.wait({self._commenting})
        await self._send({"type": "http.response.body", "body": self._voice.failure(error), "more_body": False})

    def _on_time(self) -> None:
        """Write a comment when nothing has been written for long; look again when that could be so next."""
        idle_seconds = self._loop.time() - self._sent_at
        if idle_seconds >= self._keepalive_seconds:
            self._commenting = self._loop.create_task(self._comment())
            idle_seconds = 0.0
        self._timer = self._loop.call_later(self._keepalive_seconds - idle_seconds, self._on_time)

    async def _comment(self) -> None:
        self._sent_at = self._loop.time()
        if not self._started:  # from here on an error is an event: no other status can be sent any more
            await self._start([])
        await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})


def _check_headers(check: Check | SecondOpinion, second: str | None, *, passed: bool) -> list[tuple[bytes, bytes]]:
    """What came of it, who was asked besides, and how much of the answer was held back for it."""
    result = "passed" if passed else "failed"
    held = "whole" if check.hold_tokens is None else f"first-{check.hold_tokens}-tokens"
    return [
        (b"x-pointsman-check", (result if second is None else f"{result}; second={second}").encode()),
        (b"x-pointsman-held", held.encode()),
    ]


def _limit_headers(held: Held) -> list[tuple[bytes, bytes]]:
    if held.admission is None:
        return []
    told = ratelimit_headers(held.admission.reservation)
    return [(name.encode(), value.encode()) for name, value in told.items()]


def _headers(decision: Decision, answer: Answer) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"x-pointsman-model", answer.model.name.encode()),
        (b"x-pointsman-basis", decision.basis.value.encode()),
        (b"x-pointsman-reason", decision.reason[:HEADER_LIMIT_CHARACTERS].encode("latin-1", "replace")),
    ]
    if decision.template:
        headers.append((b"x-pointsman-template", decision.template.encode()))
    if decision.check is not None and answer.cache is None:
        headers += _check_headers(decision.check, decision.second, passed=answer.model.name == decision.model)
    if answer.cache is not None:
        headers.append((b"x-pointsman-cache", answer.cache.encode()))
    if answer.passed_over:
        headers.append((b"x-pointsman-passed-over", ", ".join(answer.passed_over).encode()))
    return headers
