"""Is the client still there? Knows ASGI's disconnect message and nothing else."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGone(Exception):
    """The client hung up; nobody waits for the answer."""


async def until_gone(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """The result of *work*, which is cancelled, and awaited, as soon as the client hangs up. Raises ClientGone.

    The request's body must have been read: nobody cancels a handler that waits for an engine's first chunk, and the
    next message a server sends is the disconnect.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
