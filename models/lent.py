"""Calls a model whose engine another process of ours runs: where it can be called, and how it is, are told us."""

import asyncio
from collections.abc import Callable

from models.catalog import Model
from models.engine import Call, EngineState, EngineUnavailable, Health, Reply
from models.process import Place, begin_at, reader_at, upstream_at
from models.upstream import OpenAIUpstream
from models.vllm.readings import Reader, Readings


class LentEngine:
    """An Engine. Whoever runs it calls `told`; *given_back* is called when we shall call it no more."""

    def __init__(self, model: Model, given_back: Callable[[], None]) -> None:
        self._model = model
        self._given_back = given_back
        self._health = Health(EngineState.STARTING, "the model is being loaded")
        self._place: Place | None = None
        self._upstream: OpenAIUpstream | None = None
        self._reader: Reader | None = None
        self._hanging_up: set[asyncio.Task[None]] = set()
        self._stopped = False

    def told(self, health: Health, place: Place | None) -> None:
        """How it is now; *place* is None while it cannot be called."""
        self._health = health
        if place != self._place:
            self._hang_up()
            self._place = place
            self._upstream = None if place is None else upstream_at(self._model, place)
            self._reader = None if place is None else reader_at(self._model, place)

    async def start(self) -> None:
        """Nothing to start: it has been."""

    async def stop(self) -> None:
        self._hang_up()
        self._place = None
        if self._hanging_up:
            await asyncio.wait(self._hanging_up)
        self._health = Health(EngineState.STOPPED)
        if not self._stopped:
            self._stopped = True
            self._given_back()

    def health(self) -> Health:
        return self._health

    async def begin(self, call: Call) -> Reply:
        upstream = self._upstream
        if upstream is None:
            raise EngineUnavailable(f"{self._model.name} cannot be called now: it is {self._health.state}")
        return await begin_at(self._model, upstream, call)

    async def readings(self) -> Readings | None:
        return None if self._reader is None else await self._reader.read()

    def _hang_up(self) -> None:
        upstream, self._upstream = self._upstream, None
        reader, self._reader = self._reader, None
        closing = [upstream.stop()] if upstream is not None else []
        closing += [reader.close()] if reader is not None else []
        for work in closing:
            task = asyncio.create_task(work)
            self._hanging_up.add(task)
            task.add_done_callback(self._hanging_up.discard)
