"""Steps that go to their end although the request that waits for them is cancelled. Knows nothing of limits."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class Uninterrupted:
    """Keeps the running steps, so that none is forgotten half-way; `close` waits for them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(
        self, step: Coroutine[Any, Any, Result], undo: Callable[[Result], Awaitable[None]] | None = None
    ) -> Result:
        """What *step* returns. When cancelled meanwhile, the step goes on, and *undo* gets what nobody waits for."""
        task = self._keep(step)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._keep(_after(task, undo))
            raise

    def begin(self, step: Coroutine[Any, Any, None]) -> None:
        """Run *step* without waiting for it; a failure is logged."""
        self._keep(_after(asyncio.ensure_future(step), None))

    async def close(self) -> None:
        while self._running:
            await asyncio.wait(self._running)

    def _keep(self, step: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(step)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


async def _after(task: asyncio.Task[Result], undo: Callable[[Result], Awaitable[None]] | None) -> None:
    try:
        result = await task
        if undo is not None:
            await undo(result)
    except Exception as error:  # nobody waits any more: a refusal needs no undoing, what was held expires
        log.debug("a step that nobody waits for ended", error=str(error))
