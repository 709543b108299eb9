"""POST /v1/decision: who would answer, and why. Nothing is called."""

from dataclasses import asdict

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.held import held_of
from gateway.prompting.naming import named_in
from gateway.schema import check, parse_object
from router.transcript import document_of

routes = APIRouter()


@routes.post("/v1/decision", tags=["inference"], summary="Say which model would answer, and why; nothing is called")
async def decision(request: Request) -> Response:
    """The same body as for chat completions."""
    held = held_of(request.scope)
    runtime = held.runtime
    body = parse_object(raw := await request.body())
    named = named_in(held, body)
    asked = check(body, len(raw), runtime.catalog) if named is None else named.asked(runtime, body)
    chosen, seconds = runtime.decide(asked, held.known_caller, held.headers)
    document = {
        "object": "decision",
        "model": chosen.model,
        **document_of(chosen),
        "estimates": [asdict(estimate) for estimate in chosen.estimates],
        "bar": asdict(runtime.knowledge.bar),
        "decide_seconds": seconds,
    }
    if asked.prompt is not None:
        version = asked.prompt.version
        variant = asked.prompt.variants[chosen.model]
        document["prompt"] = {"id": version.template.id, "version": version.number, "variant": variant}
    return Response(orjson.dumps(document), media_type="application/json")
