"""Health and metrics, for probes and scrapers."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from gateway.dispatch import BreakerState
from gateway.held import held_of
from models.engine import EngineState

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
    ready = runtime.ready()
    body = {"status": "ok" if ready else "not ready", "engines": engines}
    return Response(orjson.dumps(body), status_code=200 if ready else 503, media_type="application/json")


@routes.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    runtime = held_of(request.scope).runtime
    own = runtime.meter.metrics
    for name, engine in runtime.engines.items():
        health = engine.health()
        own.engine_up.labels(name).set(health.state is EngineState.READY)
        own.engine_restarts.labels(name).set(health.restarts)
        own.engine_queue.labels(name).set(engine.waiting)
        own.engine_in_flight.labels(name).set(engine.in_flight)
        own.engine_retries.labels(name).set(engine.retries_total)
        own.engine_hedges.labels(name).set(engine.hedges_total)
        opened = sum(replica.breaker.state is not BreakerState.CLOSED for replica in engine.replicas)
        own.engine_breakers_open.labels(name).set(opened)
        for reason, count in engine.shed.items():
            own.engine_shed.labels(name, reason).set(count)
    ledger = runtime.ledger
    own.ledger_waiting.set(ledger.waiting)
    own.journal_errors.set(ledger.journal_errors)
    own.recovered.set(ledger.recovered_charges)
    own.lost.set(ledger.lost_requests)
    own.unkept_refusals.set(ledger.unkept_refusals)
    return Response(generate_latest(runtime.registry), media_type=CONTENT_TYPE_LATEST)
