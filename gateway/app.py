"""The ASGI application: its routes, its life from start-up to shutdown, and what it says when a route fails."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import admin as admin_api
from gateway.api import batches as batches_api
from gateway.api import catalog as catalog_api
from gateway.api import counts as counts_api
from gateway.api import decision as decision_api
from gateway.api import feedback as feedback_api
from gateway.api import files as files_api
from gateway.api import messages
from gateway.api import operations as operations_api
from gateway.api import prompts as prompts_api
from gateway.api import responses as responses_api
from gateway.api.description import describe
from gateway.batching.runner import BatchRunner
from gateway.builder import Builder, EngineMaker, KnowledgeMaker, load_knowledge_for, make_engines
from gateway.cache.embedding import EmbedMaker, local_embedder
from gateway.errors import (
    NO_DATABASE,
    GatewayError,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
)
from gateway.exposition import read_gauges
from gateway.guard import Guard
from gateway.held import held_of
from gateway.ledger.database import UNREADABLE
from gateway.reload import Reloader
from gateway.runtime import Runtime
from gateway.settings import Settings, load_settings
from gateway.workers.crew import ALONE, Crew

log = structlog.get_logger(__name__)

LEARN_SECONDS = 1.0  # how long what another process has learned may go unnoticed, but for what reading it takes
PUBLISH_SECONDS = 1.0  # how long a label that another process has moved may go unnoticed; one row is read
GAUGES_SECONDS = 1.0  # how old the gauges of another process may be; scrapers come every ten seconds or so

# FastAPI traces by itself where its environment says so, exceptions with their texts included: prompts may be in them.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

ROOMS = (
    decision_api,
    counts_api,
    catalog_api,
    responses_api,
    files_api,
    batches_api,
    feedback_api,
    prompts_api,
    operations_api,
    admin_api,
)


def create_app(
    settings: Settings,
    *,
    engine_maker: EngineMaker = make_engines,
    knowledge_maker: KnowledgeMaker = load_knowledge_for,
    embed_maker: EmbedMaker = local_embedder,
    load: Callable[..., Settings] = load_settings,
    crew: Crew = ALONE,
) -> Guard:
    """The gateway, to be given to a server. Its parts live in `.builder` from start-up to shutdown.

    *load* reads the settings anew when a reload is asked for. *crew*: the processes that serve the same gateway.
    """
    builder = Builder(version("pointsman"), engine_maker, knowledge_maker, embed_maker, crew)
    app = FastAPI(
        title="Pointsman",
        summary="An OpenAI-compatible inference gateway that routes by proof.",
        version=version("pointsman"),
        lifespan=_lifespan(settings, builder, load, crew),
        redirect_slashes=False,
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.draining = False  # true when this process takes no more requests
    for api in ROOMS:
        app.include_router(api.routes)
    describe(app)
    app.add_exception_handler(HTTPException, _routing_error)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(GatewayError, _own_error)
    for unreadable in UNREADABLE:
        app.add_exception_handler(unreadable, _database_error)
    app.add_exception_handler(Exception, _bug)
    return Guard(app, builder)


def _lifespan(  # type: ignore[no-untyped-def]  # FastAPI's own Lifespan type
    settings: Settings, builder: Builder, load: Callable[..., Settings], crew: Crew
):
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        await builder.open(settings)
        reloads = _reloader(settings, builder, load) if crew.reloads is None else crew.reloads()
        app.state.reloads = reloads
        app.state.publish = builder.publish
        try:
            async with reloads.watching(), AsyncExitStack() as beside:
                if crew.first:  # one process runs batches: it sees to it that no more lines are asked than may be
                    await beside.enter_async_context(_running(BatchRunner(lambda: builder.runtime).run(), "batches"))
                await beside.enter_async_context(_running(_keep_learning(builder, crew), "learning"))
                await beside.enter_async_context(_running(_keep_published(builder), "prompts"))
                if crew.counts is not None:
                    await beside.enter_async_context(_running(_keep_gauges(builder), "gauges"))
                yield
        finally:
            await builder.close()

    return lifespan


def _reloader(settings: Settings, builder: Builder, load: Callable[..., Settings]) -> Reloader[Runtime]:
    reloads = builder.runtime.meter.metrics.reloads
    return Reloader(settings, builder.build, builder.swap, count=lambda result: reloads.of(result).inc(), load=load)


async def _keep_gauges(builder: Builder) -> None:
    """For whichever process is scraped: the others do not hear of it."""
    while True:
        await read_gauges(builder.runtime)
        await asyncio.sleep(GAUGES_SECONDS)


async def _keep_learning(builder: Builder, crew: Crew) -> None:
    """One process counts, all are told."""
    while True:
        await asyncio.sleep(LEARN_SECONDS)
        try:
            if crew.first:
                await builder.count()
            await builder.learn()
        except SQLAlchemyError as error:  # what was known is known still, and nothing is lost
            log.error("the router cannot learn", error=str(error).splitlines()[0])
        except Exception:  # whatever it is, requests are answered by what was known
            log.exception("the router cannot learn")


async def _keep_published(builder: Builder) -> None:
    """Every process sees for itself: whoever has moved a label may be on another machine."""
    while True:
        await asyncio.sleep(PUBLISH_SECONDS)
        try:
            await builder.publish()
        except SQLAlchemyError as error:
            log.error("the prompts cannot be read", error=str(error).splitlines()[0])
        except Exception:  # whatever it is, what was published is served
            log.exception("the prompts cannot be read")


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None], name: str) -> AsyncGenerator[None, None]:
    running = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    """What FastAPI says of a parameter in the path or the query, in OpenAI's shape."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:])
    return _told(request, InvalidRequest(f"{param}: {first['msg']}", param=param))


async def _own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return _told(request, error)


async def _database_error(request: Request, error: Exception) -> Response:
    log.error("the database does not answer", error=str(error).splitlines()[0])
    return _told(request, Overloaded(NO_DATABASE))


async def _bug(request: Request, error: Exception) -> Response:
    """Starlette raises it again after this, and the guard logs it."""
    found_under = held_of(request.scope).request_id
    return _told(request, Internal(f"the gateway failed; the operator finds it under {found_under}"))


async def _routing_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    shaped: GatewayError
    if error.status_code == 405:
        shaped = MethodNotAllowed(f"{request.method} is not possible on {path}", allow=_methods(request))
    else:
        shaped = NotFound(f"there is nothing at {path}; the API is under /v1, its description at /openapi.json")
    return _told(request, shaped)


def _told(request: Request, error: GatewayError) -> Response:
    body = orjson.dumps(messages.worded(error, request.url.path, held_of(request.scope).request_id))
    return Response(body, error.status, error.headers(), media_type="application/json")


def _methods(request: Request) -> str:
    """All that are possible on this path; Starlette names those of the first route that has it."""
    routes = [*request.app.router.routes, *(route for api in ROOMS for route in api.routes.routes)]
    matching = [route for route in routes if isinstance(route, Route) and route.path_regex.match(request.url.path)]
    exact = [route for route in matching if route.path == request.url.path]  # a name before a pattern
    there = exact or [route for route in matching if route.path == matching[0].path]  # and the narrower one before
    return ", ".join(sorted({method for route in there for method in route.methods or ()} - {"HEAD"}))
