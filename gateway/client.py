"""The other end of a request: its body, and whether it is still there. Knows ASGI's messages and nothing else."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

WATCH_AFTER_SECONDS = 0.05  # a watch is a task: an answer that is there by then needs none


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


@contextmanager
def leaving_stops(receive: Receive) -> Iterator[None]:
    """The block is cancelled, and raises ClientGone, as soon as the client hangs up.

    Nobody else cancels a handler that waits for an engine. The request's body must have been read: the next message a
    server sends then is the disconnect.
    """
    loop = asyncio.get_running_loop()
    working = asyncio.current_task()
    assert working is not None
    watch: asyncio.Task[None] | None = None
    gone = False

    def start_watch() -> None:
        nonlocal watch
        watch = loop.create_task(_disconnected(receive))
        watch.add_done_callback(stop_work)

    def stop_work(ended: asyncio.Task[None]) -> None:
        nonlocal gone
        if not ended.cancelled():
            gone = True
            working.cancel()

    timer = loop.call_later(WATCH_AFTER_SECONDS, start_watch)
    try:
        yield
    except asyncio.CancelledError:
        if gone and working.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        if watch is not None:
            watch.remove_done_callback(stop_work)
            watch.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
