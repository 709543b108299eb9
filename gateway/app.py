"""The composition root: builds every part from settings, and nothing else does."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

import anyio.to_thread
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.api import catalog as catalog_api
from gateway.api import decision as decision_api
from gateway.api import operations as operations_api
from gateway.api import responses as responses_api
from gateway.api.description import describe
from gateway.dispatch import Dispatcher, replicas_of
from gateway.errors import GatewayError, Internal, MethodNotAllowed, NotFound, error_response
from gateway.guard import Guard
from gateway.held import held_of
from gateway.keys import Keys, read_pepper
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from gateway.meter import Meter, Metrics
from gateway.responses import ResponseStore
from gateway.runtime import Runtime
from gateway.served import served_catalog
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Engine
from models.engines import ENGINES, Surroundings
from models.store import ModelStore
from router.bar import parse_bar
from router.decision import Knowledge
from router.knowledge import load_knowledge
from router.strategies import STRATEGIES

EngineMaker = Callable[[Catalog, Settings], Mapping[str, Sequence[Engine]]]
KnowledgeMaker = Callable[[Catalog, Settings], Knowledge]


def make_engines(catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
    """The engines of every row of the catalogue, one per replica."""
    around = Surroundings(model_store(settings), settings.data_dir / "logs")
    return {m.name: [ENGINES[m.engine](row, around) for row in replicas_of(m)] for m in catalog}


def load_knowledge_for(catalog: Catalog, settings: Settings) -> Knowledge:
    """What the router knows about the served models, against the operator's bar."""
    return load_knowledge(catalog.chatting, parse_bar(settings.bar, settings.confidence))


def create_app(
    settings: Settings,
    *,
    engine_maker: EngineMaker = make_engines,
    knowledge_maker: KnowledgeMaker = load_knowledge_for,
) -> Guard:
    """The gateway as an ASGI application; its parts live from start-up to shutdown in `.app.state.runtime`."""
    app = FastAPI(
        title="Pointsman",
        summary="An OpenAI-compatible inference gateway that routes by proof.",
        version=version("pointsman"),
        lifespan=_lifespan(settings, engine_maker, knowledge_maker),
        redirect_slashes=False,
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
    )
    for routes in (decision_api.routes, catalog_api.routes, responses_api.routes, operations_api.routes):
        app.include_router(routes)
    describe(app)
    app.add_exception_handler(HTTPException, _routing_error)
    app.add_exception_handler(GatewayError, _own_error)
    app.add_exception_handler(Exception, _bug)
    return Guard(app)


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
        meter = Meter(ledger, metrics, catalog.safe)
        made = engine_maker(catalog, settings)
        engines = {m.name: Dispatcher.of(m, made[m.name], on_discarded=meter.discard) for m in catalog}
        app.state.runtime = Runtime(
            settings=settings,
            catalog=catalog,
            engines=engines,
            strategy=STRATEGIES[settings.strategy](),
            knowledge=knowledge_maker(catalog, settings),
            keys=Keys(database, read_pepper(settings.data_dir)),
            ledger=ledger,
            responses=ResponseStore(database, retention=timedelta(days=settings.response_retention_days)),
            meter=meter,
            registry=registry,
        )
        try:
            for engine in engines.values():
                await engine.start()
            yield
        finally:
            for engine in engines.values():
                await engine.stop()
            await app.state.runtime.meter.close()
            await anyio.to_thread.run_sync(ledger.close)
            database.dispose()

    return lifespan


async def _own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return error_response(error)


async def _bug(request: Request, error: Exception) -> Response:
    """Starlette raises it again after this, and the guard logs it."""
    found_under = held_of(request.scope).request_id
    return error_response(Internal(f"the gateway failed; the operator finds it under {found_under}"))


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
