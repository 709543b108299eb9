"""Health and metrics, for probes and scrapers."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from gateway.exposition import expose
from gateway.held import held_of

routes = APIRouter(tags=["operations"])


@routes.get("/livez", summary="The process answers")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@routes.get("/readyz", summary="The safe tier can answer, so every request can be served")
@routes.get("/health", include_in_schema=False)
async def readyz(request: Request) -> Response:
    runtime = held_of(request.scope).runtime
    engines: dict[str, Any] = {}
    for name, engine in runtime.engines.items():
        health = engine.health()
        engines[name] = {"state": health.state.value, "restarts": health.restarts}  # its detail is for the log
    ready = runtime.ready() and not request.app.state.draining
    body = {"status": "ok" if ready else "not ready", "engines": engines}
    return Response(orjson.dumps(body), status_code=200 if ready else 503, media_type="application/json")


@routes.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    return Response(await expose(held_of(request.scope).runtime), media_type=CONTENT_TYPE_LATEST)
