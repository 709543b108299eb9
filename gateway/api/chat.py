"""POST /v1/chat/completions and /v1/decision: bytes in, an answer's chunks out as SSE or one JSON object."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.client import ClientGone, until_gone
from gateway.completion import Answer, begin
from gateway.errors import Cut, GatewayError, Internal, of_engine
from gateway.guard import held_of
from gateway.ledger.charge import Outcome
from gateway.meter import Tab
from gateway.runtime import decide
from gateway.schema import parse_chat
from models.engine import Chunk, EngineError

log = structlog.get_logger(__name__)

routes = APIRouter()

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
HEADER_LIMIT_CHARACTERS = 500


@routes.post("/v1/chat/completions", tags=["inference"], summary="Answer a conversation")
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions. `model: "auto"` is routed, a model's name pins it; see the x-pointsman-* headers."""
    held = held_of(request.scope)
    tab = held.tab
    assert tab is not None, "the guard opens a tab for every charged path"
    asked = parse_chat(await request.body(), held.runtime.catalog)
    tab.asked(asked.asked, streamed=asked.stream)
    try:
        answer = await until_gone(request.receive, begin(held.runtime, asked, tab))
    except EngineError as error:
        raise of_engine(error) from error
    return _Streamed(answer, tab, include_usage=asked.include_usage) if asked.stream else await _whole(answer, tab)


@routes.post("/v1/decision", tags=["inference"], summary="Say which model would answer, and why; nothing is called")
async def decision(request: Request) -> Response:
    """The same body as for chat completions."""
    held = held_of(request.scope)
    asked = parse_chat(await request.body(), held.runtime.catalog)
    chosen, seconds = decide(held.runtime.strategy, held.runtime.knowledge, asked)
    bar = held.runtime.knowledge.bar
    document = {
        "object": "decision",
        "model": chosen.model,
        **asdict(chosen),
        "bar": asdict(bar),
        "decide_seconds": seconds,
    }
    return Response(orjson.dumps(document), media_type="application/json")


async def _whole(answer: Answer, tab: Tab) -> Response:
    async with aclosing(answer.rest) as rest:
        async for _ in rest:  # nothing follows; at its end the connection to the engine can be used again
            pass
    body = orjson.dumps(_named(answer.first, answer))
    await tab.settle(Outcome.OK, 200)
    return Response(body, media_type="application/json", headers=_headers(answer))


class _Streamed(Response):
    """Sends the chunks as they come; stops the engine when the client leaves; closes the tab before the last byte."""

    def __init__(self, answer: Answer, tab: Tab, *, include_usage: bool) -> None:
        super().__init__(
            status_code=200, media_type=EVENT_STREAM, headers={**_headers(answer), "cache-control": "no-store"}
        )
        del self.headers["content-length"]
        self._answer = answer
        self._tab = tab
        self._include_usage = include_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._answer.rest):
                await until_gone(receive, self._send_all(send))
        except ClientGone:
            self._tab.close(Outcome.GONE, self.status_code)
        finally:
            self._tab.close(Outcome.CUT, self.status_code, Cut.code)  # cancelled at shutdown; a no-op otherwise

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        error: GatewayError | None = None
        try:
            async for event in self._events():
                await send({"type": "http.response.body", "body": event, "more_body": True})
        except EngineError as problem:
            error = Cut(problem.message)
        except Exception:  # the status line is sent: only this stream can still tell the client
            log.exception("failed in the middle of an answer", request_id=self._tab.request_id)
            error = Internal(f"the gateway failed; the operator finds it under {self._tab.request_id}")
        if error is not None:
            await self._tab.settle(Outcome.CUT, self.status_code, error.code)
            await send({"type": "http.response.body", "body": _event(error.body()), "more_body": True})
        else:
            await self._tab.settle(Outcome.OK, self.status_code)
        await send({"type": "http.response.body", "body": DONE, "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        if self._is_for_client(self._answer.first):
            yield _event(_named(self._answer.first, self._answer))
        async for chunk in self._answer.rest:
            self._tab.received(chunk)
            if self._is_for_client(chunk):
                yield _event(_named(chunk, self._answer))

    def _is_for_client(self, chunk: Chunk) -> bool:
        return self._include_usage or bool(chunk.data.get("choices"))  # the usage chunk has no choices


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def _named(chunk: Chunk, answer: Answer) -> dict[str, Any]:
    """The chunk under the catalogue's name of the model, whatever the engine calls it."""
    return {**chunk.data, "model": answer.model.name}


def _headers(answer: Answer) -> dict[str, str]:
    decision = answer.decision
    headers = {
        "x-pointsman-model": answer.model.name,
        "x-pointsman-basis": decision.basis.value,
        "x-pointsman-reason": decision.reason[:HEADER_LIMIT_CHARACTERS],
    }
    if decision.template:
        headers["x-pointsman-template"] = decision.template
    if answer.passed_over:
        headers["x-pointsman-passed-over"] = ", ".join(answer.passed_over)
    return headers
