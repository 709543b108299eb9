"""/v1/feedback: what became of an answer, told by who asked for it, at any time while the ledger has its charge."""

import asyncio
from typing import Annotated, Any

import anyio.to_thread
import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from starlette.responses import Response

from gateway.errors import InvalidRequest, NotFound, Overloaded
from gateway.feedback import NAMES_LIMIT, TooManyNames, kind_of
from gateway.held import Held, held_of
from gateway.schema import checked, parse_object

routes = APIRouter(tags=["feedback"])

ID_LIMIT_CHARACTERS = 64
ID = r"^[!-~]+$"  # what an id may hold; PostgreSQL takes no NUL
NUMBER_LIMIT = 10**12  # beyond it somebody has sent an identifier
TEXT_LIMIT_CHARACTERS = 1_000
COMMENT_LIMIT_CHARACTERS = 4_000
SETTLE_SECONDS = 2.0  # a charge is in the database a moment after its answer; a database that hangs is not waited for
ELSEWHERE_SECONDS = 0.2  # that moment, for a request that another worker answered

Integer = Annotated[StrictInt, Field(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT)]
Fraction = Annotated[StrictFloat, Field(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT)]
Text = Annotated[StrictStr, Field(min_length=1, max_length=TEXT_LIMIT_CHARACTERS)]


class FeedbackWire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: str = Field(
        min_length=1, max_length=ID_LIMIT_CHARACTERS, pattern=ID, description="as x-request-id said"
    )
    name: str = Field("feedback", pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="of several kinds of outcome")
    value: StrictBool | Integer | Fraction | Text = Field(description="was it good: yes or no, a number, or a label")
    comment: str | None = Field(None, max_length=COMMENT_LIMIT_CHARACTERS)


BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": FeedbackWire.model_json_schema()}}}
}


@routes.post("/v1/feedback", summary="Tell how good an answer was", openapi_extra=BODY)
async def put_feedback(request: Request) -> Response:
    """Telling again under the same name replaces what was told."""
    held = held_of(request.scope)
    said = checked(parse_object(await request.body()), FeedbackWire)
    if not await _is_theirs(held, said.request_id):
        raise NotFound(
            f"there is no request {said.request_id!r} of yours here; its id is what the header x-request-id said",
            param="request_id",
            code="request_not_found",
        )
    put = held.runtime.feedback.put
    try:
        told = await anyio.to_thread.run_sync(put, said.request_id, held.caller_id, said.name, said.value, said.comment)
    except TooManyNames as error:
        raise InvalidRequest(
            f"the request has feedback of {NAMES_LIMIT} other names, which is all that is kept: use one of these",
            param="name",
        ) from error
    held.runtime.meter.metrics.feedback.of(kind_of(said.value)).inc()
    return _json(told.document())


@routes.get("/v1/feedback", summary="What was told of a request")
async def list_feedback(
    request: Request, request_id: Annotated[str, Query(min_length=1, max_length=ID_LIMIT_CHARACTERS, pattern=ID)]
) -> Response:
    held = held_of(request.scope)
    told = await anyio.to_thread.run_sync(held.runtime.feedback.told, request_id, held.caller_id)
    return _json({"object": "list", "data": [one.document() for one in told]})


async def _is_theirs(held: Held, request_id: str) -> bool:
    """Being answered, on its way to the ledger, or there; the last look is for a request of another worker."""
    runtime = held.runtime
    if runtime.meter.is_open(request_id, held.caller_id):
        return True
    find = runtime.feedback.is_charged
    if await anyio.to_thread.run_sync(find, request_id, held.caller_id):
        return True
    try:
        await asyncio.wait_for(runtime.ledger.flush(), SETTLE_SECONDS)
    except TimeoutError as error:
        raise Overloaded("the ledger cannot be written now; see the gateway's log") from error
    if await anyio.to_thread.run_sync(find, request_id, held.caller_id):
        return True
    await asyncio.sleep(ELSEWHERE_SECONDS)
    return await anyio.to_thread.run_sync(find, request_id, held.caller_id)


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
