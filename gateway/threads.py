"""Blocking work in a thread, for tasks that are cancelled when the gateway ends."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

LAST_LOOK_SECONDS = 5.0  # for what a thread does when the gateway ends

Answer = TypeVar("Answer")


async def to_its_end(call: Callable[..., Answer], *args: object) -> Answer:
    """In a thread that has ended when this returns, also for who is cancelled meanwhile: else the database or the file
    that it works on would be closed under it. One that hangs is left after a while.
    """
    running = asyncio.ensure_future(anyio.to_thread.run_sync(call, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running}, timeout=LAST_LOOK_SECONDS)
        raise
