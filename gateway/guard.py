"""The door, in pure ASGI: request id, size of the body and key are checked before anything is parsed.

It opens the tab of every charged request, calls the endpoint, and closes the tab on every way out that nobody else
closed. Paths that call a model are answered from `ENDPOINTS`; everything else is for the application behind.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import perf_counter, time_ns
from typing import Any

import anyio.to_thread
import orjson
import structlog
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api import messages
from gateway.api.endpoints import ENDPOINTS
from gateway.api.inference import JSON, Endpoint
from gateway.builder import Builder
from gateway.client import ClientGone
from gateway.errors import (
    NO_DATABASE,
    BodyTooLarge,
    Cut,
    GatewayError,
    Internal,
    InvalidKey,
    MethodNotAllowed,
    Overloaded,
)
from gateway.held import STATE, Held
from gateway.keys import LOOPBACK_CALLER, Caller, Keys, KeysUnreadable
from gateway.ledger.charge import Outcome
from gateway.ledger.database import UNREADABLE
from gateway.logs import write_request_line
from gateway.meter import Tab
from gateway.runtime import Runtime
from gateway.settings import Settings

log = structlog.get_logger(__name__)

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health"})  # probes carry no key and learn no secret
LOOPBACK_PATHS = frozenset({"/metrics", "/openapi.json"})  # whoever looks from this machine needs no key
ID_BYTES = 8  # random ones, behind the time: the ledger's index grows at its end, which costs a third
BATCH = "batch"  # the operation of an errand, in the ledger
FORM_BYTES = 64 * 1024  # of an upload, around its file

# Paths whose bodies may be larger than others: how large, and which setting says so.
LARGER_BODIES: Mapping[str, tuple[Callable[[Settings], int], str]] = {
    "/v1/files": (lambda settings: settings.file_limit_bytes + FORM_BYTES, "POINTSMAN_FILE_LIMIT_BYTES"),
}
BODY_LIMIT = (lambda settings: settings.body_limit_bytes, "POINTSMAN_BODY_LIMIT_BYTES")


class Guard:
    """The ASGI application that a server is given: nothing comes to *app* but through here."""

    def __init__(self, app: FastAPI, builder: Builder) -> None:
        self.app = app
        self.builder = builder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await _Visit(self.app, self.builder.runtime, scope, receive, send).run()


@dataclass(frozen=True, slots=True)
class Errand:
    """A request of our own making, for a caller who is not there: a line of a batch. `priority` as in `Call`."""

    path: str
    body: bytes
    caller_id: str
    priority: int


@dataclass(slots=True)
class Returned:
    """How an errand was answered. `status` is None when it was not: *stop* was set first."""

    status: int | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    @property
    def request_id(self) -> str:
        return self.headers[b"x-request-id"].decode()


async def run_errand(runtime: Runtime, errand: Errand, stop: asyncio.Event) -> Returned:
    """Everything that holds for a request from outside holds for this one; only the key is not asked for again.

    Setting *stop* is what hanging up is for a client.
    """
    returned = Returned()
    messages: list[Message] = [{"type": "http.request", "body": errand.body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await stop.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            returned.status = message["status"]
            returned.headers = dict(message["headers"])
        else:
            returned.body += message.get("body", b"")

    scope: Scope = {"type": "http", "method": "POST", "path": errand.path, "headers": [], "client": None}
    await _Visit(_nothing_behind, runtime, scope, receive, send, errand).run()
    return returned


async def _nothing_behind(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"{scope['path']} calls no model")


class _Visit:
    """One request's way through the door and out again."""

    __slots__ = (
        "_app",
        "_body_bytes",
        "_endpoint",
        "_errand",
        "_headers",
        "_limit_bytes",
        "_limit_setting",
        "_receive",
        "_request_id",
        "_runtime",
        "_scope",
        "_send",
        "_start",
        "_status",
        "_tab",
    )

    def __init__(
        self,
        app: ASGIApp,
        runtime: Runtime,
        scope: Scope,
        receive: Receive,
        send: Send,
        errand: Errand | None = None,
    ) -> None:
        self._app = app
        self._errand = errand
        self._runtime = runtime
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = f"req_{time_ns() // 1000:014x}{os.urandom(ID_BYTES).hex()}"
        self._start = perf_counter()
        self._status: int | None = None
        self._body_bytes = 0
        limit_of, self._limit_setting = LARGER_BODIES.get(scope["path"], BODY_LIMIT)
        self._limit_bytes = limit_of(runtime.settings)
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._endpoint: Endpoint | None = ENDPOINTS.get(scope["path"])
        charged = self._endpoint is not None and scope["method"] == "POST"
        self._tab: Tab | None = runtime.meter.open(self._request_id, runtime.catalog.safe) if charged else None
        if self._tab is not None and runtime.tracing is not None:
            self._tab.trace = runtime.tracing.begin(self._request_id, scope["path"], self._headers)

    async def run(self) -> None:
        held: Held | None = None
        try:
            held = await self._admit()
            if self._endpoint is None:
                self._scope[STATE] = held
                await self._app(self._scope, self._bounded_receive, self._tagged_send)
            elif self._tab is not None:
                await self._endpoint.answer(held, self._bounded_receive, self._tagged_send)
            else:
                raise MethodNotAllowed(
                    f"{self._scope['method']} is not possible on {self._scope['path']}", allow="POST"
                )
        except GatewayError as error:
            await self._refuse(error)
        except (ClientGone, ClientDisconnect):
            self._close(Outcome.GONE)
        except UNREADABLE as error:
            log.error("the database does not answer", request_id=self._request_id, error=str(error).splitlines()[0])
            await self._refuse(Overloaded(NO_DATABASE))
        except Exception:
            log.exception("unhandled", request_id=self._request_id)
            await self._refuse(Internal(f"the gateway failed; the operator finds it under {self._request_id}"))
        finally:
            self._close_left_open()
            if held is not None and held.admission is not None:
                await held.settle()
            self._write_log()

    async def _admit(self) -> Held:
        """Raises a GatewayError for whoever may not come in; the body has not been read then."""
        caller = await self._caller()
        if self._tab is not None:
            if caller is not None:
                assert self._endpoint is not None
                self._tab.held_by(caller, BATCH if self._errand is not None else self._endpoint.operation)
            if not self._runtime.ledger.has_room():
                raise Overloaded("the ledger cannot be written; see the gateway's log", retry_after_seconds=5)
        declared = self._headers.get(b"content-length")
        if declared is not None and not declared.isdigit():
            raise BodyTooLarge("the content-length header is not a number")
        if declared is not None and int(declared) > self._limit_bytes:
            raise self._too_large()
        priority = 0 if self._errand is None else self._errand.priority
        return Held(self._request_id, self._scope["path"], self._runtime, caller, self._tab, self._headers, priority)

    async def _caller(self) -> Caller | None:
        """Who is calling; None on the open paths. Raises InvalidKey, Overloaded."""
        if self._errand is not None:
            return await self._sender(self._errand.caller_id)
        path = self._scope["path"]
        if path in OPEN_PATHS:
            return None
        if path in LOOPBACK_PATHS and self._is_from_loopback():
            return LOOPBACK_CALLER
        key = _key(self._headers)
        caller = await self._holder(key) if key is not None else None
        if caller is not None:
            return caller
        if self._runtime.settings.open_loopback and self._is_from_loopback():
            return LOOPBACK_CALLER
        if key is None:
            raise InvalidKey("no API key was given; send it as: Authorization: Bearer YOUR_KEY")
        raise InvalidKey("this API key is not known here or was revoked; make one with: pointsman keys create NAME")

    async def _sender(self, caller_id: str) -> Caller:
        """Of an errand; the key may have been revoked since it was sent. Raises InvalidKey, Overloaded."""
        if caller_id == LOOPBACK_CALLER.id and self._runtime.settings.open_loopback:
            return LOOPBACK_CALLER
        caller = (await self._fresh_keys()).holder(caller_id)
        if caller is None:
            raise InvalidKey("the API key that asked for this was revoked")
        return caller

    async def _holder(self, key: str) -> Caller | None:
        return (await self._fresh_keys()).find(key)

    async def _fresh_keys(self) -> Keys:
        keys = self._runtime.keys
        if keys.stale:
            try:
                await anyio.to_thread.run_sync(keys.refresh)
            except KeysUnreadable as error:
                raise Overloaded("the keys cannot be read now; see the gateway's log", retry_after_seconds=2) from error
        return keys

    def _is_from_loopback(self) -> bool:
        """And not for somebody else: a proxy on this machine says for whom it asks."""
        if b"x-forwarded-for" in self._headers or b"forwarded" in self._headers:
            return False
        return _is_loopback(self._scope.get("client"))

    async def _bounded_receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body_bytes += len(message.get("body", b""))
            if self._body_bytes > self._limit_bytes:
                raise self._too_large()
        return message

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the request body is larger than {self._limit_bytes} bytes ({self._limit_setting})")

    def _tagged_send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            milliseconds = round(1000 * (perf_counter() - self._start))
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self._request_id.encode()),
                (b"openai-processing-ms", str(milliseconds).encode()),
            ]
            if self._tab is not None:
                message["headers"] += self._tab.prompt_headers
            if self._scope["path"].startswith(messages.PATHS):  # its clients look for the id under another name
                message["headers"].append((b"request-id", self._request_id.encode()))
        return self._send(message)

    async def _refuse(self, error: GatewayError) -> None:
        """Send *error*, unless an answer has begun; the charge is written first."""
        if self._status is not None:
            return
        if self._tab is not None:
            self._tab.close(Outcome.FAILED if error.status >= 500 else Outcome.REFUSED, error.status, error.code)
        body = orjson.dumps(messages.worded(error, self._scope["path"], self._request_id))
        headers = [
            (b"content-type", JSON),
            (b"content-length", str(len(body)).encode()),
            *((name.encode(), value.encode()) for name, value in error.headers().items()),
        ]
        await self._tagged_send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._tagged_send({"type": "http.response.body", "body": body})

    def _close(self, outcome: Outcome, code: str | None = None) -> None:
        if self._tab is not None:
            self._tab.close(outcome, self._status, code)

    def _close_left_open(self) -> None:
        """Whatever ended a request without closing its tab; a cancellation at shutdown does."""
        if self._status is None or self._status >= 500:
            self._close(Outcome.FAILED)
        elif self._status >= 400:
            self._close(Outcome.REFUSED)
        else:
            self._close(Outcome.CUT, Cut.code)

    def _write_log(self) -> None:
        write_request_line(
            request_id=self._request_id,
            method=self._scope["method"],
            path=self._scope["path"],
            status=self._status,
            seconds=round(perf_counter() - self._start, 4),
        )


def _key(headers: Mapping[bytes, bytes]) -> str | None:
    """OpenAI's clients send a bearer token, Anthropic's an `x-api-key`."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    written = key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()
    return written.decode("latin-1") or None


def _is_loopback(client: Any) -> bool:
    try:
        address = ip_address(client[0]) if client is not None else None
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # what a socket open to IPv6 and IPv4 reports
    return address is not None and (mapped or address).is_loopback
