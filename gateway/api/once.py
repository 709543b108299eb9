"""Idempotency-Key: the same request under the same key is answered once; the answer is kept before it is sent."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import anyio.to_thread
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Message, Send

from gateway.errors import InvalidRequest, KeyInUse
from gateway.held import Held
from gateway.idempotency import BEAT_SECONDS, Claim, IdempotencyStore, KeyReused, KeyTaken, Stored
from gateway.ledger.charge import Outcome
from gateway.prompting.naming import HEADERS

log = structlog.get_logger(__name__)

IDEMPOTENCY_KEY = b"idempotency-key"
KEY_LIMIT_CHARACTERS = 256  # the table's column; a UUID has 36


async def once(held: Held, raw: bytes, send: Send, answer: Callable[[Send], Awaitable[None]]) -> None:
    """Send what *answer* sends, or what it has sent for this key before. Raises GatewayError, ClientGone."""
    key = _key(held)
    store = held.runtime.idempotency
    try:
        claim = await anyio.to_thread.run_sync(store.claim, held.caller_id, key, _digest(held, raw))
    except KeyTaken as error:
        raise KeyInUse("the first request with this Idempotency-Key is still being answered; try again") from error
    except KeyReused as error:
        raise InvalidRequest(
            "this Idempotency-Key was used for another request; take a new key for each request",
            code="idempotency_key_reused",
        ) from error
    if isinstance(claim, Stored):
        await _replay(held, claim, send)
    else:
        await _answer(held, claim, send, answer)


async def _answer(held: Held, claim: Claim, send: Send, answer: Callable[[Send], Awaitable[None]]) -> None:
    store = held.runtime.idempotency
    beating = asyncio.create_task(_beat(store, claim))
    keeper = _Keeper(held, claim, send)
    try:
        await answer(keeper.send)
    finally:
        beating.cancel()
        if not keeper.kept:
            await anyio.to_thread.run_sync(store.release, claim)


class _Keeper:
    """Lets the first message wait for the second, which is the whole body, and keeps a good answer before both."""

    def __init__(self, held: Held, claim: Claim, send: Send) -> None:
        self._held = held
        self._claim = claim
        self._send = send
        self._start: Message | None = None
        self.kept = False

    async def send(self, message: Message) -> None:
        if self._start is None:
            self._start = message
            return
        if self._start["status"] == 200:
            await self._keep(message["body"])
        await self._send(self._start)
        await self._send(message)

    async def _keep(self, body: bytes) -> None:
        """An answer that cannot be kept is sent all the same: it has been computed."""
        charge = self._held.charged.charge
        assert charge is not None, "a good answer is charged before it is sent"
        try:
            answer = Stored(200, body.decode(), charge.prompt, charge.prompt_version, charge.prompt_variant)
            self.kept = await anyio.to_thread.run_sync(self._held.runtime.idempotency.keep, self._claim, answer)
        except (SQLAlchemyError, UnicodeDecodeError) as error:
            log.error("an idempotent answer was not kept", error=str(error).splitlines()[0])


async def _beat(store: IdempotencyStore, claim: Claim) -> None:
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        try:
            if not await anyio.to_thread.run_sync(store.beat, claim):
                return
        except SQLAlchemyError as error:
            log.error("a claim on an idempotency key was not renewed", error=str(error).splitlines()[0])


async def _replay(held: Held, answer: Stored, send: Send) -> None:
    held.charged.replayed(answer.prompt, answer.prompt_version, answer.prompt_variant)
    held.charged.close(Outcome.OK, answer.status)
    body = answer.body.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"idempotency-replayed", b"true"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _key(held: Held) -> str:
    """Raises InvalidRequest."""
    key = held.headers[IDEMPOTENCY_KEY].decode("latin-1").strip()
    if not 0 < len(key) <= KEY_LIMIT_CHARACTERS or not key.isprintable():
        raise InvalidRequest(
            f"an Idempotency-Key has 1 to {KEY_LIMIT_CHARACTERS} printable characters", code="invalid_idempotency_key"
        )
    return key


def _digest(held: Held, raw: bytes) -> str:
    """A prompt may be named in headers, too; without them the digest is what it always was."""
    named = b"".join(b"\0%b: %b" % (name, held.headers[name]) for name in sorted(HEADERS & held.headers.keys()))
    return hashlib.sha256(held.path.encode() + named + b"\0" + raw).hexdigest()
