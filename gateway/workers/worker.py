"""One of several processes that serve: `python -m gateway.workers.worker PLACE CHANNEL DOOR REGION...`.

The last three are file descriptors. Started by `gateway.workers.supervisor`, which tells it everything, and without
which it ends.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
import uvicorn

from gateway import logs
from gateway.app import create_app
from gateway.builder import Builder, make_engines
from gateway.guard import Guard
from gateway.reload import Reloaded
from gateway.runtime import Runtime
from gateway.serving import loop_factory, make_server, serve_on
from gateway.settings import Settings
from gateway.workers.channel import Channel, Closed, Failed
from gateway.workers.counts import Counts, Region
from gateway.workers.crew import Crew
from gateway.workers.door import Doorway
from gateway.workers.limits import AskingStore
from gateway.workers.told import engine_read, read
from models.catalog import Catalog
from models.engine import Engine
from models.engines import LOCAL_ENGINES
from models.lent import LentEngine

log = structlog.get_logger(__name__)

STARTED_POLL_SECONDS = 0.02


class Lent:
    """The engines that the supervisor runs, by the ids that it gave them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ids: Mapping[str, str] = {}  # of the models of the settings told last
        self._states: Mapping[str, Any] = {}
        self._engines: dict[str, LentEngine] = {}
        self._giving_back: set[asyncio.Task[None]] = set()

    async def told(self, states: Mapping[str, Any]) -> None:
        """How the engines are now, by id."""
        self._states = states
        for id, engine in self._engines.items():
            if id in states:
                engine.told(*engine_read(states[id]))

    def serve(self, ids: Mapping[str, str]) -> None:
        """The ids of the engines by their models, for `make_engines` from now on."""
        self._ids = ids

    def make_engines(self, catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
        """As `gateway.builder.make_engines`, but for those that run already."""
        own = Catalog({m.name: m for m in catalog if m.engine not in LOCAL_ENGINES}, {})
        made = dict(make_engines(own, settings))
        for model in catalog:
            if model.engine in LOCAL_ENGINES:
                id = self._ids[model.name]
                engine = self._engines[id] = LentEngine(model, partial(self._give_back, id))
                engine.told(*engine_read(self._states[id]))
                made[model.name] = [engine]
        return made

    def _give_back(self, id: str) -> None:
        del self._engines[id]
        task = asyncio.create_task(self._tell_given_back(id))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _tell_given_back(self, id: str) -> None:
        with contextlib.suppress(Closed):
            await self._channel.ask("given back", id)


class ToldReloads:
    """The supervisor reads the settings, and tells all processes what came of it: first to get ready, then to swap."""

    def __init__(self, channel: Channel, builder: Builder, lent: Lent) -> None:
        self._channel = channel
        self._builder = builder
        self._lent = lent
        self._ready: Runtime | None = None

    async def reload(self, reason: str) -> Reloaded:
        try:
            told = await self._channel.ask("reload", reason)
        except (Closed, Failed) as error:
            return Reloaded("refused", reason, str(error) or "the gateway is ending")
        return Reloaded(told["result"], told["reason"], told["error"], tuple(told["waiting"]))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        self._channel.answers.update(prepare=self._prepare, swap=self._swap, drop=self._drop)
        yield

    async def _prepare(self, told: Mapping[str, Any]) -> None:
        """Raises what the supervisor is to tell the operator."""
        await self._lent.told(told["engines"])
        self._lent.serve(told["ids"])
        self._ready = await self._builder.build(read(told["settings"]))

    async def _swap(self, told: object) -> None:
        assert self._ready is not None
        await self._builder.swap(self._ready)
        self._ready = None

    async def _drop(self, told: object) -> None:
        if self._ready is not None:
            await self._builder.drop(self._ready)
            self._ready = None


async def work(place: int, end: socket.socket, door: socket.socket, regions: Sequence[Region]) -> bool:
    """Serve until told to stop, or until the supervisor is gone. Whether it has served."""
    channel = await Channel.open(end, {})
    told = await channel.ask("begin")
    settings = read(told["settings"])
    logs.set_up(settings.log_level)
    lent = Lent(channel)
    channel.answers["engines"] = lent.told
    await lent.told(told["engines"])
    lent.serve(told["ids"])
    counts = Counts(regions, place)
    counts.install()
    limits = AskingStore(channel) if settings.limits_place == "memory" else None
    crew = Crew(place, settings.workers, counts, lambda: ToldReloads(channel, app.builder, lent), limits)
    app = create_app(settings, engine_maker=lent.make_engines, crew=crew)
    server = make_server(app, settings)
    channel.answers["drain"] = partial(_drain, app)
    beside = [
        asyncio.create_task(_begin(server, Doorway(door, server), channel), name="begin"),
        asyncio.create_task(_end_with(channel, server), name="end with the supervisor"),
    ]
    try:
        await serve_on([], server)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        await channel.close()
    return server.started


async def _drain(app: Guard, told: object) -> None:
    """Before the signal that ends it: whoever asks whether we are ready learns that we are not."""
    app.app.state.draining = True


async def _begin(server: uvicorn.Server, doorway: Doorway, channel: Channel) -> None:
    while not server.started:  # noqa: ASYNC110  # uvicorn offers no event
        await asyncio.sleep(STARTED_POLL_SECONDS)
    doorway.open()
    with contextlib.suppress(Closed):
        await channel.ask("started")


async def _end_with(channel: Channel, server: uvicorn.Server) -> None:
    await channel.closed.wait()
    if not server.should_exit:
        log.error("the supervisor is gone; this process ends")
        server.should_exit = True


def main() -> None:
    """Exit status 0 after a stop, 1 when it could not be started."""
    place, end, door, *regions = map(int, sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the supervisor, which tells us
    with contextlib.suppress(KeyboardInterrupt, Closed):
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            opened = [Region(descriptor) for descriptor in regions]
            served = runner.run(work(place, socket.socket(fileno=end), socket.socket(fileno=door), opened))
        if not served:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
