"""The other end of a request: its body, and whether it is still there. Knows ASGI's messages and nothing else."""

import asyncio
from typing import ClassVar

from starlette.types import Receive

WATCH_AFTER_SECONDS = 0.05  # to twice as much; a watch is a task: an answer that is there by then needs none


class ClientGone(Exception):
    """The client hung up; nobody waits for the answer."""


async def read_body(receive: Receive) -> bytes:
    """The whole body of the request. Raises ClientGone."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole
    pieces = []
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)
        message = await receive()
    raise ClientGone


class leaving_stops:  # reads as what it does: with leaving_stops(receive)
    """The block is cancelled, and raises ClientGone, as soon as the client hangs up.

    Nobody else cancels a handler that waits for an engine. The request's body must have been read: the next message a
    server sends then is the disconnect.
    """

    __slots__ = ("_gone", "_receive", "_rounds", "_watch", "_working")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._gone = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._working = asyncio.current_task(loop)
        self._rounds = _Rounds.of(loop)
        self._rounds.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._rounds.discard(self)
        if self._watch is not None:
            self._watch.remove_done_callback(self._stop_work)
            self._watch.cancel()
        assert self._working is not None
        if self._gone and kind is asyncio.CancelledError and self._working.uncancel() == 0:
            raise ClientGone from None

    def start_watch(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._disconnected())
        self._watch.add_done_callback(self._stop_work)

    def _stop_work(self, ended: asyncio.Task[None]) -> None:
        if not ended.cancelled():
            self._gone = True
            assert self._working is not None
            self._working.cancel()

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _Rounds:
    """Starts the watches of requests that take their time: one timer for all of a loop, as one each costs more than the
    rest of a watch that is never started.
    """

    _newest: "ClassVar[_Rounds | None]" = None  # a process has one loop, as a rule

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "_Rounds":
        if cls._newest is None or cls._newest._loop is not loop:
            cls._newest = cls(loop)
        return cls._newest

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._new: set[leaving_stops] = set()
        self._seen: set[leaving_stops] = set()  # on the round before
        self._going = False

    def add(self, block: leaving_stops) -> None:
        self._new.add(block)
        if not self._going:
            self._going = True
            self._loop.call_later(WATCH_AFTER_SECONDS, self._go)

    def discard(self, block: leaving_stops) -> None:
        self._new.discard(block)
        self._seen.discard(block)

    def _go(self) -> None:
        for block in self._seen:
            block.start_watch()
        self._seen, self._new = self._new, set()
        self._going = bool(self._seen)
        if self._going:
            self._loop.call_later(WATCH_AFTER_SECONDS, self._go)
