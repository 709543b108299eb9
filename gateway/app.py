"""The composition root: builds every part from settings, and nothing else does."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.api import batches as batches_api
from gateway.api import catalog as catalog_api
from gateway.api import decision as decision_api
from gateway.api import feedback as feedback_api
from gateway.api import files as files_api
from gateway.api import operations as operations_api
from gateway.api import responses as responses_api
from gateway.api.description import describe
from gateway.batches import BatchStore
from gateway.batching.runner import BatchRunner
from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound, error_response
from gateway.feedback import FeedbackStore
from gateway.files import FileStore
from gateway.guard import Guard
from gateway.idempotency import IdempotencyStore
from gateway.keys import Keys, read_pepper
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from gateway.limits import Limited
from gateway.meter import Meter, Metrics
from gateway.responses import ResponseStore
from gateway.runtime import Runtime
from gateway.settings import Settings, SettingsError
from models.catalog import AUTO, Catalog, CatalogError, Price, load_catalog
from models.engine import Engine
from models.engines import ENGINES, Surroundings
from models.store import ModelStore
from router.bar import parse_bar
from router.decision import Knowledge
from router.knowledge import load_knowledge
from router.strategies import STRATEGIES

EngineMaker = Callable[[Catalog, Settings], Mapping[str, Engine]]
KnowledgeMaker = Callable[[Catalog, Settings], Knowledge]

ROOMS = (decision_api, catalog_api, responses_api, files_api, batches_api, feedback_api, operations_api)


def make_engines(catalog: Catalog, settings: Settings) -> Mapping[str, Engine]:
    """An engine for every row of the catalogue."""
    around = Surroundings(model_store(settings), settings.data_dir / "logs")
    return {model.name: ENGINES[model.engine](model, around) for model in catalog}


def load_knowledge_for(catalog: Catalog, settings: Settings) -> Knowledge:
    """What the router knows about the served models, against the operator's bar."""
    return load_knowledge(catalog.chatting, parse_bar(settings.bar, settings.confidence))


def create_app(
    settings: Settings,
    *,
    engine_maker: EngineMaker = make_engines,
    knowledge_maker: KnowledgeMaker = load_knowledge_for,
) -> FastAPI:
    """The gateway as an ASGI application; its parts live from start-up to shutdown in `app.state.runtime`."""
    app = FastAPI(
        title="Pointsman",
        summary="An OpenAI-compatible inference gateway that routes by proof.",
        version=version("pointsman"),
        lifespan=_lifespan(settings, engine_maker, knowledge_maker),
        redirect_slashes=False,
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
    )
    for api in ROOMS:
        app.include_router(api.routes)
    describe(app)
    app.add_exception_handler(HTTPException, _routing_error)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_middleware(Guard, runtime=lambda: app.state.runtime)
    return app


def served_catalog(settings: Settings) -> Catalog:
    """The rows to serve, each with a price: its own, or that of an hour of this machine.

    Raises CatalogError, or SettingsError for a model that the catalogue does not have.
    """
    catalog = load_catalog(settings.catalog)
    try:
        chosen = catalog if settings.models == ("all",) else catalog.only(settings.models)
    except CatalogError as error:
        raise SettingsError(f"POINTSMAN_MODELS: {error}") from error
    hourly = Price(hour_usd=settings.machine_hour_usd)
    priced = {
        m.name: m.model_copy(update={"price": hourly}) if m.price is None and m.engine == "llamacpp" else m
        for m in chosen
    }
    return Catalog(priced, {alias: name for alias, name in chosen.aliases.items() if name == AUTO or name in priced})


def model_store(settings: Settings) -> ModelStore:
    return ModelStore(settings.cache_dir / "models")


def _lifespan(  # type: ignore[no-untyped-def]  # FastAPI's own Lifespan type
    settings: Settings, engine_maker: EngineMaker, knowledge_maker: KnowledgeMaker
):
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        catalog = served_catalog(settings)
        database = await anyio.to_thread.run_sync(open_database, settings.database)
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        metrics.build_info.labels(app.version).set(1)
        ledger = Ledger(database, settings.data_dir / "journal")
        made = engine_maker(catalog, settings)
        engines = {m.name: Limited(made[m.name], parallel=m.parallel, queue=m.queue) for m in catalog}
        wake_batches = asyncio.Event()
        app.state.runtime = Runtime(
            settings=settings,
            catalog=catalog,
            engines=engines,
            strategy=STRATEGIES[settings.strategy](),
            knowledge=knowledge_maker(catalog, settings),
            keys=Keys(database, read_pepper(settings.data_dir)),
            ledger=ledger,
            responses=ResponseStore(database, retention=timedelta(days=settings.response_retention_days)),
            files=FileStore(database, settings.data_dir),
            batches=BatchStore(database),
            feedback=FeedbackStore(database),
            idempotency=IdempotencyStore(database),
            wake_batches=wake_batches.set,
            meter=Meter(ledger, metrics, catalog.safe),
            registry=registry,
        )
        try:
            for engine in engines.values():
                await engine.start()
            running = asyncio.create_task(BatchRunner(lambda: app.state.runtime, wake_batches).run())
            try:
                yield
            finally:
                running.cancel()
                await asyncio.wait({running})
        finally:
            for engine in engines.values():
                await engine.stop()
            await app.state.runtime.meter.close()
            await anyio.to_thread.run_sync(ledger.close)
            database.dispose()

    return lifespan


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    """What FastAPI says of a parameter in the path or the query, in OpenAI's shape."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:])
    return error_response(InvalidRequest(f"{param}: {first['msg']}", param=param))


async def _routing_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    shaped: GatewayError
    if error.status_code == 405:
        shaped = MethodNotAllowed(f"{request.method} is not possible on {path}")
    else:
        shaped = NotFound(f"there is nothing at {path}; the API is under /v1, its description at /openapi.json")
    return error_response(shaped, error.headers)
