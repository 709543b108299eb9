"""How many answers an engine makes at once, and who waits for one. In this process only."""

import asyncio

from models.engine import Call, Engine, EngineBusy, Health, Reply

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

    async def begin(self, call: Call) -> Reply:
        await self._take_slot()
        try:
            reply = await self.engine.begin(call)
        except BaseException:
            self._slots.release()
            raise
        reply.when_closed(self._slots.release)
        return reply

    async def _take_slot(self) -> None:
        if self._slots.locked() and self._waiting >= self._queue:
            raise EngineBusy("too many requests wait for this model", retry_after_seconds=RETRY_AFTER_SECONDS)
        self._waiting += 1
        try:
            async with asyncio.timeout(QUEUE_TIMEOUT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise EngineBusy(
                f"no place was free within {QUEUE_TIMEOUT_SECONDS:g} s", retry_after_seconds=RETRY_AFTER_SECONDS
            ) from None
        finally:
            self._waiting -= 1
