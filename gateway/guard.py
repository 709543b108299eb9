"""The door, in pure ASGI: request id, size of the body and key are checked before anything is parsed.

It opens the tab of every charged request and closes it on every way out that nobody else closed.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from time import perf_counter
from typing import Any

import anyio.to_thread
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.client import ClientGone
from gateway.errors import BodyTooLarge, GatewayError, Internal, InvalidKey, Overloaded, error_response
from gateway.keys import LOOPBACK_CALLER, Caller, KeysUnreadable
from gateway.ledger.charge import Outcome
from gateway.meter import Tab
from gateway.runtime import Runtime

log = structlog.get_logger(__name__)

CHARGED_PATHS = frozenset({"/v1/chat/completions"})
OPEN_PATHS = frozenset({"/livez", "/readyz", "/health"})  # probes carry no key and learn no secret
LOOPBACK_PATHS = frozenset({"/metrics", "/openapi.json"})  # whoever looks from this machine needs no key
ID_BYTES = 12
STATE = "pointsman"


@dataclass(slots=True)
class Held:
    """What the guard found out, for the routes."""

    request_id: str
    runtime: Runtime
    caller: Caller | None
    tab: Tab | None  # of charged paths


def held_of(scope: Scope) -> Held:
    held: Held = scope[STATE]
    return held


class Guard:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, runtime: Callable[[], Runtime]) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Visit(self._app, self._runtime(), scope, receive, send).run()


class _Visit:
    """One request's way through the door and out again."""

    def __init__(self, app: ASGIApp, runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._runtime = runtime
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = f"req_{secrets.token_hex(ID_BYTES)}"
        self._start = perf_counter()
        self._status: int | None = None
        self._body_bytes = 0
        self._charged = scope["method"] == "POST" and scope["path"] in CHARGED_PATHS
        self._tab: Tab | None = runtime.meter.open(self._request_id) if self._charged else None

    async def run(self) -> None:
        try:
            await self._admit()
            await self._app(self._scope, self._bounded_receive, self._tagged_send)
        except GatewayError as error:
            await self._refuse(error)
        except (ClientGone, ClientDisconnect):
            self._close(Outcome.GONE)
        except Exception:
            log.exception("unhandled", request_id=self._request_id)
            await self._refuse(Internal(f"the gateway failed; the operator finds it under {self._request_id}"))
        finally:
            self._close(Outcome.FAILED if self._status is None or self._status >= 500 else Outcome.REFUSED)
            self._write_log()

    async def _admit(self) -> None:
        """Raises a GatewayError for whoever may not come in; the body has not been read then."""
        caller = await self._caller()
        if self._tab is not None:
            if caller is not None:
                self._tab.held_by(caller.id)
            if not self._runtime.ledger.has_room():
                raise Overloaded("the ledger cannot be written; see the gateway's log", retry_after_seconds=5)
        declared = Headers(scope=self._scope).get("content-length")
        if declared is not None and (not declared.isascii() or not declared.isdigit()):
            raise BodyTooLarge("the content-length header is not a number")
        if declared is not None and int(declared) > self._runtime.settings.body_limit_bytes:
            raise self._too_large()
        self._scope[STATE] = Held(self._request_id, self._runtime, caller, self._tab)

    async def _caller(self) -> Caller | None:
        """Who is calling; None on the open paths. Raises InvalidKey, Overloaded."""
        path = self._scope["path"]
        if path in OPEN_PATHS:
            return None
        from_loopback = _is_loopback(self._scope.get("client"))
        if from_loopback and path in LOOPBACK_PATHS:
            return LOOPBACK_CALLER
        key = _bearer(Headers(scope=self._scope))
        caller = await self._holder(key) if key is not None else None
        if caller is not None:
            return caller
        if from_loopback and self._runtime.settings.open_loopback:
            return LOOPBACK_CALLER
        if key is None:
            raise InvalidKey("no API key was given; send it as: Authorization: Bearer YOUR_KEY")
        raise InvalidKey("this API key is not known here or was revoked; make one with: pointsman keys create NAME")

    async def _holder(self, key: str) -> Caller | None:
        keys = self._runtime.keys
        if keys.stale:
            try:
                await anyio.to_thread.run_sync(keys.refresh)
            except KeysUnreadable as error:
                raise Overloaded("the keys cannot be read now; see the gateway's log", retry_after_seconds=2) from error
        return keys.find(key)

    async def _bounded_receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body_bytes += len(message.get("body", b""))
            if self._body_bytes > self._runtime.settings.body_limit_bytes:
                raise self._too_large()
        return message

    def _too_large(self) -> BodyTooLarge:
        limit = self._runtime.settings.body_limit_bytes
        return BodyTooLarge(f"the request body is larger than {limit} bytes (POINTSMAN_BODY_LIMIT_BYTES)")

    async def _tagged_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            headers["openai-processing-ms"] = str(round(1000 * (perf_counter() - self._start)))
        await self._send(message)

    async def _refuse(self, error: GatewayError) -> None:
        """Send *error*, unless an answer has begun; the charge is written first."""
        if self._status is not None:
            return
        if self._tab is not None:
            outcome = Outcome.FAILED if error.status >= 500 else Outcome.REFUSED
            await self._tab.settle(outcome, error.status, error.code)
        await error_response(error)(self._scope, self._receive, self._tagged_send)

    def _close(self, outcome: Outcome) -> None:
        if self._tab is not None:
            self._tab.close(outcome, self._status)

    def _write_log(self) -> None:
        log.info(
            "request",
            request_id=self._request_id,
            method=self._scope["method"],
            path=self._scope["path"],
            status=self._status,
            seconds=round(perf_counter() - self._start, 4),
        )


def _bearer(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _is_loopback(client: Any) -> bool:
    try:
        address = ip_address(client[0]) if client is not None else None
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # what a socket open to IPv6 and IPv4 reports
    return address is not None and (mapped or address).is_loopback
