"""The parent of several processes that serve: it starts them, brings back the ones that die, runs the engines for all
of them, reads the settings anew for all of them, and ends them. It answers no request itself.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

import gateway
from gateway.builder import make_engines, until_ready
from gateway.limits.claim import LimitStore
from gateway.meter import Metrics
from gateway.reload import Reloader
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from gateway.workers.channel import Answering, Channel, Closed, Failed
from gateway.workers.counts import Counts, Region
from gateway.workers.door import Door
from gateway.workers.limits import KeptLimits
from gateway.workers.told import engine_written, written
from models.catalog import Catalog, CatalogError, Model
from models.engine import Engine, Health
from models.engines import LOCAL_ENGINES
from models.process import Place, ProcessEngine

log = structlog.get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0  # a worker that lived this long starts its back-off anew
ENGINES_POLL_SECONDS = 0.1  # engines offer no event; a call to one that has just died fails as if we had not known
READY_TIMEOUT_SECONDS = 600.0  # of an engine that a reload adds; until then the old settings serve
DRAIN_SECONDS = 1.0  # for the workers to hear that they are not ready any more
CLOSE_SECONDS = 15.0  # beyond the time for answers: a worker's ledger has ten
CODE = Path(gateway.__file__).parents[1]  # the workers run the same code, wherever the gateway was started


@dataclass(slots=True, eq=False)
class _Worker:
    process: asyncio.subprocess.Process
    channel: Channel
    started: asyncio.Event
    limits: KeptLimits
    door: socket.socket  # ours of the pair that it gets its connections through


@dataclass(frozen=True, slots=True, eq=False)
class _Local:
    """An engine of ours. `users`: the places of the workers that may call it; it ends with the last of them."""

    engine: Engine
    users: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the workers are to serve; `ids` of the engines that run here, by their models."""

    settings: Settings
    catalog: Catalog
    ids: Mapping[str, str]


class Supervisor:
    """Make it in the event loop that is to run it."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        listener: socket.socket,
        limits: LimitStore,
        load: Callable[..., Settings] = load_settings,
    ) -> None:
        """*limits*: where those of all workers are counted, unless the settings name a Redis."""
        self._limits = limits
        self._plan = _Plan(settings, catalog, {})
        self._door = Door(listener)
        self._regions = [Region.make() for _ in range(settings.workers + 1)]
        self._counts = Counts(self._regions, own=settings.workers)
        self._counts.install()
        self._metrics = Metrics(CollectorRegistry(), self._counts)
        self._workers: dict[int, _Worker] = {}
        self._locals: dict[str, _Local] = {}  # by id, those too that have been replaced and still answer
        self._made = 0
        self._steady = asyncio.Lock()  # held by who reloads and by who brings a worker back: one at a time
        self._up = asyncio.Event()  # all workers have been started once
        self._stop = asyncio.Event()
        self._failed = False
        reloads = self._metrics.reloads
        self._reloader = Reloader(
            settings, self._build, self._swap, count=lambda result: reloads.of(result).inc(), load=load
        )

    @property
    def engines(self) -> Mapping[str, Health]:
        """How those that run here are, by their models."""
        return {name: self._locals[id].engine.health() for name, id in self._plan.ids.items()}

    async def run(self, greet: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Until a signal; whether it has served. *greet* is begun when every worker has been started."""
        self._take_signals()
        self._warn_of_few_places()
        await self._start_engines()
        tasks = [asyncio.create_task(self._keep(place), name=f"worker {place}") for place in range(self.size)]
        telling = asyncio.create_task(self._tell_engines(), name="tell engines")
        greeting: asyncio.Task[None] | None = None
        try:
            await _first(self._up.wait(), self._stop.wait())
            if not self._stop.is_set():
                greeting = asyncio.create_task(greet(), name="greeting")
                async with self._reloader.watching():
                    await self._stop.wait()
            return not self._failed
        finally:
            if greeting is not None:
                greeting.cancel()
            await self._end_workers()
            await asyncio.gather(*tasks)
            telling.cancel()
            await asyncio.gather(*(local.engine.stop() for local in self._locals.values()))

    @property
    def size(self) -> int:
        return self._plan.settings.workers

    def _warn_of_few_places(self) -> None:
        few = [model.name for model in self._plan.catalog if model.parallel < self.size]
        if few:
            log.warning("each worker has a place at each engine, more than its row's `parallel` says", models=few)

    # Workers.

    async def _keep(self, place: int) -> None:
        """Start the worker, and start it again when it ends, until we are to stop."""
        loop = asyncio.get_running_loop()
        backoff_seconds = FIRST_BACKOFF_SECONDS
        restart = False
        while not self._stop.is_set():
            begun = loop.time()
            try:
                status: int | str = await self._run_once(place, restart=restart)
            except OSError as error:  # no process can be had now
                status = str(error)
            if self._stop.is_set():
                return
            if not self._up.is_set():
                log.error("a worker could not be started", worker=place, status=status)
                self._failed = True
                self._stop.set()
                return
            if loop.time() - begun > HEALTHY_AFTER_SECONDS:
                backoff_seconds = FIRST_BACKOFF_SECONDS
            log.error("worker ended", worker=place, status=status, again_in_seconds=backoff_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), backoff_seconds)
            backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)
            restart = True

    async def _run_once(self, place: int, *, restart: bool) -> int:
        """One life of the worker. Its exit status."""
        async with self._steady if restart else nullcontext():
            if self._stop.is_set():
                return 0
            worker = self._workers[place] = await self._begin(place)
            if self._stop.is_set():  # too late for the signal that the others get
                worker.process.terminate()
            ended = asyncio.create_task(worker.process.wait())
            await _first(worker.started.wait(), ended)
            self._door.let_in(place, worker.door)
            if restart:
                self._metrics.worker_restarts.inc()
        if [w.started.is_set() for w in self._workers.values()] == [True] * self.size:
            self._up.set()
        status = await ended
        del self._workers[place]
        self._door.shut(place)
        await worker.channel.close()
        self._counts.forget_living(place)
        await worker.limits.worker_died()
        for id in tuple(self._locals):
            await self._give_back(place, id)
        return status

    async def _begin(self, place: int) -> _Worker:
        (ours, theirs), (our_door, their_door) = socket.socketpair(), socket.socketpair()
        with theirs, their_door:
            passed = [theirs.fileno(), their_door.fileno(), *(region.descriptor for region in self._regions)]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a folder called gateway where the gateway was started is not ours
                "-m",
                "gateway.workers.worker",
                *map(str, [place, *passed]),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=passed,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends its workers after their answers
                env={**os.environ, "PYTHONPATH": str(CODE)},
            )
        started, limits = asyncio.Event(), KeptLimits(self._limits)
        answers: dict[str, Answering] = {
            "begin": partial(self._tell_plan, place),
            "started": partial(_set, started),
            "given back": partial(self._give_back, place),
            "reload": self._reload,
            **limits.answers,
        }
        return _Worker(process, await Channel.open(ours, answers), started, limits, our_door)

    async def _tell_plan(self, place: int, told: object) -> dict[str, Any]:
        """What a worker asks for when it begins."""
        return self._told(self._plan, [place])

    def _told(self, plan: _Plan, places: Iterable[int]) -> dict[str, Any]:
        """For the workers at *places*, who may call the plan's engines from now on."""
        for id in plan.ids.values():
            self._locals[id].users.update(places)
        return {"settings": written(plan.settings, plan.catalog), "engines": self._states(), "ids": dict(plan.ids)}

    async def _ask_all(self, kind: str, told: object = None) -> None:
        """Ask every worker that lives. Raises Failed when one of them could not."""
        asked = (worker.channel.ask(kind, told) for worker in tuple(self._workers.values()))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Closed):
                raise answer

    async def _end_workers(self) -> None:
        """First they say that they are not ready, then they end with their last answer."""
        with suppress(TimeoutError, Failed):
            await asyncio.wait_for(self._ask_all("drain"), DRAIN_SECONDS)
        await self._door.close()
        self._signal(signal.SIGTERM)
        ends = [asyncio.create_task(worker.process.wait()) for worker in self._workers.values()]
        if ends:
            await asyncio.wait(ends, timeout=self._plan.settings.shutdown_seconds + CLOSE_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.process.send_signal(number)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._take_signal, number)

    def _take_signal(self, number: signal.Signals) -> None:
        """The second Ctrl-C is for answers that take too long."""
        if self._stop.is_set():
            self._signal(number)
        self._stop.set()

    # Engines.

    async def _start_engines(self) -> None:
        plan = self._plan
        ids = self._add_engines(plan.catalog, plan.settings)
        self._plan = replace(plan, ids=ids)
        for id in ids.values():
            await self._locals[id].engine.start()

    def _add_engines(self, rows: Iterable[Model], settings: Settings) -> dict[str, str]:
        """Make the engines of those *rows* that run here. Their ids, by model."""
        here = Catalog({m.name: m for m in rows if m.engine in LOCAL_ENGINES}, {})
        ids = {}
        for name, [engine] in make_engines(here, settings).items():
            self._made += 1
            ids[name] = f"{name} {self._made}"
            self._locals[ids[name]] = _Local(engine)
        return ids

    def _states(self) -> dict[str, Any]:
        return {id: engine_written(local.engine.health(), _place(local.engine)) for id, local in self._locals.items()}

    async def _tell_engines(self) -> None:
        """Tell the workers whenever an engine is not as it was."""
        before: dict[str, Any] = {}
        while True:
            now = self._states()
            if now != before:
                before = now
                with suppress(Failed):
                    await self._ask_all("engines", now)
            await asyncio.sleep(ENGINES_POLL_SECONDS)

    async def _give_back(self, place: int, id: object) -> None:
        """The worker calls the engine no more."""
        assert isinstance(id, str)
        if id in self._locals:
            self._locals[id].users.discard(place)
            await self._end_unused(id)

    async def _end_unused(self, *ids: str) -> None:
        """End those of the engines that have been replaced and that no worker calls any more."""
        for id in ids:
            local = self._locals.get(id)
            if local is not None and not local.users and id not in self._plan.ids.values():
                del self._locals[id]
                await local.engine.stop()

    # Reloading: everybody gets ready, then everybody swaps; no worker is brought back meanwhile.

    async def _reload(self, reason: object) -> dict[str, Any]:
        """A worker was asked to."""
        if not self._up.is_set():
            raise Failed("the gateway is still starting")
        return asdict(await self._reloader.reload(str(reason)))

    async def _build(self, settings: Settings) -> _Plan:
        """Raises CatalogError when an engine cannot work, or a worker cannot serve so; nothing is left behind then."""
        await self._steady.acquire()
        try:
            return await self._prepare(settings)
        except BaseException:
            self._steady.release()
            raise

    async def _prepare(self, settings: Settings) -> _Plan:
        catalog, serving = served_catalog(settings), self._plan.catalog.models
        added = self._add_engines((m for m in catalog if serving.get(m.name) != m), settings)
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                for name, id in added.items():
                    await self._locals[id].engine.start()
                    await until_ready(catalog.models[name], self._locals[id].engine)
            kept = {name: id for name, id in self._plan.ids.items() if name in catalog.models and name not in added}
            plan = _Plan(settings, catalog, {**kept, **added})
            await self._ask_all("prepare", self._told(plan, self._workers))
        except BaseException as error:
            with suppress(Failed):
                await self._ask_all("drop")
            for id in added.values():
                self._locals[id].users.clear()
            await self._end_unused(*added.values())
            if isinstance(error, Failed):
                raise CatalogError(str(error)) from error
            raise
        return plan

    async def _swap(self, plan: _Plan) -> None:
        replaced = set(self._plan.ids.values()).difference(plan.ids.values())
        try:
            self._plan = plan
            await self._ask_all("swap")
            await self._end_unused(*replaced)
        finally:
            self._steady.release()


def _place(engine: Engine) -> Place | None:
    assert isinstance(engine, ProcessEngine)
    return engine.place


async def _set(event: asyncio.Event, told: object) -> None:
    event.set()


async def _first(*events: Awaitable[object]) -> None:
    """Wait for one of them; a task among them goes on."""
    waiting = {asyncio.ensure_future(event) for event in events}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waiting.difference(event for event in events if isinstance(event, asyncio.Task)):
            wait.cancel()
