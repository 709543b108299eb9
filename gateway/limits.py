"""How many answers an engine makes at once, and who waits for one. In this process only."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from models.engine import Call, Chunk, Engine, EngineBusy, Health

QUEUE_TIMEOUT_SECONDS = 120.0
RETRY_AFTER_SECONDS = 2.0


class Limited:
    """An Engine with at most *parallel* answers at a time and at most *queue* requests waiting for one."""

    def __init__(self, engine: Engine, *, parallel: int, queue: int) -> None:
        self.engine = engine
        self._slots = asyncio.Semaphore(parallel)
        self._queue = queue
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting

    async def start(self) -> None:
        await self.engine.start()

    async def stop(self) -> None:
        await self.engine.stop()

    def health(self) -> Health:
        return self.engine.health()

    async def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        await self._take_slot()
        try:
            async with aclosing(self.engine.answer(call)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._slots.release()

    async def _take_slot(self) -> None:
        if self._slots.locked() and self._waiting >= self._queue:
            raise EngineBusy("too many requests wait for this model", retry_after_seconds=RETRY_AFTER_SECONDS)
        self._waiting += 1
        try:
            # Not wait_for: it acquires in a task of its own, so that a burst overtakes the check above, and in Python
            # 3.11 it loses a cancellation that comes together with the slot.
            async with asyncio.timeout(QUEUE_TIMEOUT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise EngineBusy(
                f"no place was free within {QUEUE_TIMEOUT_SECONDS:g} s", retry_after_seconds=RETRY_AFTER_SECONDS
            ) from None
        finally:
            self._waiting -= 1
