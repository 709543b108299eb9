"""POST /v1/decision: who would answer, and why. Nothing is called."""

from dataclasses import asdict

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.held import held_of
from gateway.schema import parse_chat
from router.transcript import document_of

routes = APIRouter()


@routes.post("/v1/decision", tags=["inference"], summary="Say which model would answer, and why; nothing is called")
async def decision(request: Request) -> Response:
    """The same body as for chat completions."""
    held = held_of(request.scope)
    runtime = held.runtime
    asked = parse_chat(await request.body(), runtime.catalog)
    chosen, seconds = runtime.decide(asked, held.known_caller, held.headers)
    document = {
        "object": "decision",
        "model": chosen.model,
        **document_of(chosen),
        "estimates": [asdict(estimate) for estimate in chosen.estimates],
        "bar": asdict(runtime.knowledge.bar),
        "decide_seconds": seconds,
    }
    return Response(orjson.dumps(document), media_type="application/json")
