"""Builds runtimes: what lives as long as the process is made once, what settings describe anew with each reload."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio.to_thread
import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from gateway.batches import BatchStore
from gateway.cache.embedding import EmbedMaker, local_embedder
from gateway.cache.opening import CacheOpener
from gateway.dispatch import Dispatcher, replicas_of
from gateway.feedback import FeedbackStore
from gateway.files import FileStore
from gateway.forecast import Forecaster
from gateway.guardrails.rails import Rails
from gateway.idempotency import IdempotencyStore
from gateway.keys import Keys, read_pepper
from gateway.learning.counting import Counter
from gateway.learning.learner import Learner
from gateway.learning.receipts import ReceiptCounter
from gateway.learning.store import RecordStore
from gateway.learning.told import Outcomes
from gateway.learning.watch import Watch
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from gateway.library.canaries import CanaryStore, watch_canaries
from gateway.library.errors import LibraryError
from gateway.library.lineup import Lineup
from gateway.library.publishing import changed, publish, published_since, take_files
from gateway.library.standing import Standing
from gateway.library.store import LibraryStore
from gateway.limits.stores import open_store
from gateway.meter import Meter, Metrics
from gateway.responses import ResponseStore
from gateway.runtime import Runtime
from gateway.served import served_catalog
from gateway.sessions import Sessions
from gateway.settings import Settings, SettingsError
from gateway.threads import to_its_end
from gateway.tracing.opening import TracingOpener
from gateway.workers.crew import ALONE, Crew
from models.catalog import Catalog, CatalogError, Model
from models.checkpoint_store import CheckpointStore
from models.engine import Engine, EngineState
from models.engines import ENGINES, Surroundings
from models.store import ModelStore
from router.bar import parse_bar
from router.decision import Knowledge
from router.groups import Groups
from router.knowledge import Hold, load_knowledge
from router.probed import NOTHING, Probed, read_probed
from router.strategies import STRATEGIES

log = structlog.get_logger(__name__)

EngineMaker = Callable[[Catalog, Settings], Mapping[str, Sequence[Engine]]]
KnowledgeMaker = Callable[[Catalog, Settings], Knowledge]

READY_TIMEOUT_SECONDS = 600.0  # of an engine that a reload adds; until then the old runtime serves
LEAVE_TIMEOUT_SECONDS = 600.0  # for the last answers of an engine that a reload removes
POLL_SECONDS = 0.1


def make_engines(catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
    """The engines of every row of the catalogue, one per replica."""
    around = Surroundings(
        model_store(settings), checkpoint_store(settings), settings.data_dir / "logs", settings.torch_python
    )
    return {m.name: [ENGINES[m.engine](row, around) for row in replicas_of(m)] for m in catalog}


def load_knowledge_for(catalog: Catalog, settings: Settings) -> Knowledge:
    """What the router knows about the served models, against the operator's bar."""
    bar, hold = parse_bar(settings.bar, settings.confidence), Hold(settings.hold_tokens, settings.hold_seconds)
    return load_knowledge(catalog.chatting, bar, hold, _probed(settings))


def probed_folder(settings: Settings) -> Path:
    """Where `pointsman router probe` keeps what it found."""
    return settings.data_dir / "probed"


def _probed(settings: Settings) -> Probed:
    """What cannot be read is left out: without a profile the safe tier serves, which is no reason not to start."""
    try:
        return read_probed(probed_folder(settings))
    except (OSError, ValueError) as error:
        log.warning("what was probed is left out", error=str(error))
        return NOTHING


def model_store(settings: Settings) -> ModelStore:
    return ModelStore(settings.cache_dir / "models")


def checkpoint_store(settings: Settings) -> CheckpointStore:
    return CheckpointStore(model_store(settings), settings.torch_python)


class Builder:
    """Make it with `open` in the event loop that serves. `runtime` is the one that serves now."""

    runtime: Runtime

    def __init__(
        self,
        version: str,
        engine_maker: EngineMaker,
        knowledge_maker: KnowledgeMaker,
        embed_maker: EmbedMaker = local_embedder,
        crew: Crew = ALONE,
    ) -> None:
        self._crew = crew
        self._version = version
        self._engine_maker = engine_maker
        self._knowledge_maker = knowledge_maker
        self._caches = CacheOpener(embed_maker)
        self._tracings = TracingOpener(version)
        self._leaving: set[asyncio.Task[None]] = set()
        self._publishing = asyncio.Lock()  # one at a time, so that nothing older comes after something newer

    async def open(self, settings: Settings) -> None:
        """Make everything and start the engines; does not wait for them.

        Raises CatalogError, DatabaseError, SettingsError.
        """
        catalog = served_catalog(settings)
        tracing = self._tracings.open(settings.tracing)
        database = await anyio.to_thread.run_sync(open_database, settings.database)
        registry = CollectorRegistry()
        metrics = Metrics(registry, self._crew.counts)
        metrics.build_info.of(self._version).set(1)
        metrics.workers.set(1)
        cache, rails = self._caches.open(settings, metrics), Rails.of(settings.guardrails)
        ledger = Ledger(database, settings.data_dir / "journal")
        meter = Meter(ledger, metrics)
        self._database = database
        records = RecordStore(database)
        self._learner = Learner(records)
        self._counter = Counter(database, records)
        self._receipts = ReceiptCounter(database, records)
        self._outcomes = Outcomes(records)
        limits = self._crew.limits or await open_store(settings.limits_place, database)
        knowledge = await anyio.to_thread.run_sync(self._know, catalog, settings)
        prompts = LibraryStore(database, Lineup.of(catalog, settings.confidence), where=settings.database_shown)
        await anyio.to_thread.run_sync(partial(self._take_prompts, prompts, settings, starting=True))
        published = await anyio.to_thread.run_sync(publish, prompts, Standing())
        self.runtime = Runtime(
            settings=settings,
            catalog=catalog,
            engines=self._engines(catalog, settings, meter),
            strategy=STRATEGIES[settings.strategy](),
            knowledge=knowledge,
            keys=Keys(database, read_pepper(settings.data_dir)),
            ledger=ledger,
            responses=ResponseStore(database, retention=timedelta(days=settings.response_retention_days)),
            files=FileStore(database, settings.data_dir),
            batches=BatchStore(database),
            wake_batches=asyncio.Event(),
            feedback=FeedbackStore(database),
            records=records,
            watch=Watch(self._outcomes, limits),
            idempotency=IdempotencyStore(database),
            limits=limits,
            cache=cache,
            rails=rails,
            tracing=tracing,
            sessions=Sessions(),
            groups=Groups(),
            forecaster=Forecaster(),
            meter=meter,
            registry=registry,
            prompts=prompts,
            library=published.library,
            standing=published.standing,
        )
        for engine in self.runtime.engines.values():
            await engine.start()

    async def close(self) -> None:
        runtime = self.runtime
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await runtime.watch.close()
        for engine in runtime.engines.values():
            await engine.stop()
        await runtime.meter.close()
        await runtime.limits.close()
        await self._caches.close()
        await anyio.to_thread.run_sync(runtime.ledger.close)
        await anyio.to_thread.run_sync(self._write_last)
        await anyio.to_thread.run_sync(self._tracings.close)
        self._database.dispose()

    async def build(self, settings: Settings) -> Runtime:
        """The runtime that *settings* describe; engines whose rows are the same are taken over, new ones are ready.

        Raises CatalogError when an engine cannot work, SettingsError when the cache cannot; nothing is left then.
        """
        old = self.runtime
        catalog = served_catalog(settings)
        tracing = self._tracings.open(settings.tracing)
        same = {m.name for m in catalog if old.catalog.models.get(m.name) == m}
        fresh = Catalog({m.name: m for m in catalog if m.name not in same}, {})
        added = self._engines(fresh, settings, old.meter)
        cache, rails = self._caches.open(settings, old.meter.metrics), Rails.of(settings.guardrails)
        knowledge = await anyio.to_thread.run_sync(self._know, catalog, settings)
        prompts = old.prompts.serving(Lineup.of(catalog, settings.confidence))
        try:
            await anyio.to_thread.run_sync(partial(self._take_prompts, prompts, settings, starting=False))
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                for name, engine in added.items():
                    await engine.start()
                    await until_ready(fresh.models[name], engine)
            published = await anyio.to_thread.run_sync(publish, prompts, old.standing)
        except BaseException:
            await _stop(added.values())
            raise
        return replace(
            old,
            settings=settings,
            catalog=catalog,
            engines={m.name: added.get(m.name) or old.engines[m.name] for m in catalog},
            strategy=STRATEGIES[settings.strategy](),
            knowledge=knowledge,
            responses=old.responses.kept_for(timedelta(days=settings.response_retention_days)),
            cache=cache,
            rails=rails,
            tracing=tracing,
            prompts=prompts,
            library=published.library,
            standing=published.standing,
        )

    async def learn(self) -> None:
        """Let the runtime know what this process and others have learned. Raises SQLAlchemyError."""
        runtime = self.runtime
        terms = runtime.settings.learning.terms(runtime.knowledge.bar)
        canaries = CanaryStore(runtime.prompts)
        await to_its_end(self._outcomes.write, runtime.knowledge, terms, canaries)
        knowledge = await to_its_end(self._learner.known, runtime.knowledge, terms)
        if self.runtime is runtime and knowledge is not runtime.knowledge:  # else a reload has made another meanwhile
            self.runtime = replace(runtime, knowledge=knowledge)
        if runtime.standing.shares:  # what was learned may have changed them
            await to_its_end(watch_canaries, canaries, runtime.standing, knowledge)
            await self.publish()

    async def count(self) -> None:
        """Let the records know what the ledger has of live traffic, and receipts of prompts. Raises SQLAlchemyError."""
        runtime = self.runtime
        learning, knowledge = runtime.settings.learning, runtime.knowledge
        await to_its_end(self._counter.count, learning, knowledge, CanaryStore(runtime.prompts))
        prompts, epoch, terms = runtime.prompts, runtime.standing.epoch, learning.terms(knowledge.bar)
        await to_its_end(self._receipts.count, prompts, epoch, knowledge, terms)

    async def publish(self) -> None:
        """Let the runtime know which prompts there are now, and where each may be sent. Raises SQLAlchemyError."""
        async with self._publishing:
            runtime = self.runtime
            found = await to_its_end(published_since, runtime.prompts, runtime.standing)
            if found is not None:
                for trial in changed(runtime.standing, found.standing) if self._crew.first else ():
                    runtime.meter.metrics.canaries.of(trial.canary.stage).inc()
                self.runtime = replace(self.runtime, library=found.library, standing=found.standing)

    async def swap(self, runtime: Runtime) -> None:
        """From here on *runtime* serves; engines that are not in it end with their last answer."""
        async with self._publishing:
            newest = await self._newest_prompts(runtime)
            old, self.runtime = self.runtime, newest
        for name, engine in old.engines.items():
            if runtime.engines.get(name) is not engine:
                leaving = asyncio.create_task(_leave(engine), name=f"{name} leaves")
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

    async def drop(self, runtime: Runtime) -> None:
        """*runtime* was built, and is not to serve."""
        await _stop(e for name, e in runtime.engines.items() if self.runtime.engines.get(name) is not e)

    async def _newest_prompts(self, runtime: Runtime) -> Runtime:
        """*runtime* with what was published while it was built, so that no label goes back."""
        try:
            found = await anyio.to_thread.run_sync(published_since, runtime.prompts, runtime.standing)
        except SQLAlchemyError as error:
            log.error("the prompts cannot be read", error=str(error).splitlines()[0])
            found = None
        return runtime if found is None else replace(runtime, library=found.library, standing=found.standing)

    def _take_prompts(self, prompts: LibraryStore, settings: Settings, *, starting: bool) -> None:
        """Let the records know the folder's prompts; one process does. Blocking. Raises SettingsError."""
        if settings.prompts.folder is None or not self._crew.first:
            return
        try:
            take_files(prompts, settings.prompts.folder, starting=starting)
        except LibraryError as error:
            raise SettingsError(str(error)) from error

    def _know(self, catalog: Catalog, settings: Settings) -> Knowledge:
        """What the tables say and what was learned since. Blocking."""
        learning = settings.learning
        known = self._knowledge_maker(catalog, settings).in_modes(learning.mode, learning.modes)
        return self._learner.known(known, learning.terms(known.bar))

    def _write_last(self) -> None:
        """Outcomes that were told since the last time. Blocking."""
        knowledge = self.runtime.knowledge
        try:
            terms = self.runtime.settings.learning.terms(knowledge.bar)
            self._outcomes.write(knowledge, terms, CanaryStore(self.runtime.prompts))
        except SQLAlchemyError as error:
            log.error("the last outcomes are not counted", error=str(error).splitlines()[0])

    def _engines(self, catalog: Catalog, settings: Settings, meter: Meter) -> dict[str, Dispatcher]:
        made = self._engine_maker(catalog, settings)
        return {m.name: Dispatcher.of(self._crew.row(m), made[m.name], on_discarded=meter.discard) for m in catalog}


async def _stop(engines: Iterable[Dispatcher]) -> None:
    for engine in engines:
        await engine.stop()


async def until_ready(model: Model, engine: Engine) -> None:
    """Raises CatalogError when it cannot be."""
    while (health := engine.health()).state is not EngineState.READY:
        if health.state is EngineState.FAILED:
            raise CatalogError(f"the model {model.name} cannot be called: {health.detail}")
        await asyncio.sleep(POLL_SECONDS)


async def _leave(engine: Dispatcher) -> None:
    try:
        async with asyncio.timeout(LEAVE_TIMEOUT_SECONDS):
            while engine.in_flight or engine.waiting:  # noqa: ASYNC110  # plain numbers
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        log.warning("an engine that is no longer served still had answers; they are cut")
    finally:
        await engine.stop()
