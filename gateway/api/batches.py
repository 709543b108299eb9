"""/v1/batches: OpenAI's Batches. What is created here is run by `gateway.batching`."""

from typing import Annotated, Any, Literal

import anyio.to_thread
import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from gateway.api.files import After, find_file, list_response
from gateway.batches import Batch, BatchPage, Status
from gateway.errors import InvalidRequest, NotFound
from gateway.held import Held, held_of
from gateway.pages import NoSuchPlace
from gateway.schema import checked, parse_object

routes = APIRouter(tags=["batches"])

PAGE_LIMIT = 100  # OpenAI's
METADATA_LIMIT = 16  # OpenAI's, like the two lengths
WINDOW_LIMIT_HOURS = 168  # OpenAI has 24 only; a week on one's own machine is no more than patience

MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class BatchWire(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    input_file_id: str = Field(min_length=1, max_length=64)
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: str = Field(pattern=r"^[1-9][0-9]{0,2}h$", description="24h, or other hours up to a week")
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=METADATA_LIMIT)
    output_expires_after: None = Field(None, description="not supported: files do not expire here")


BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": BatchWire.model_json_schema()}}}
}


@routes.post("/v1/batches", summary="Answer a file of requests", openapi_extra=BODY)
async def create_batch(request: Request) -> Response:
    held = held_of(request.scope)
    asked = checked(parse_object(await request.body()), BatchWire)
    if int(asked.completion_window.removesuffix("h")) > WINDOW_LIMIT_HOURS:
        raise InvalidRequest(f"completion_window: at most {WINDOW_LIMIT_HOURS}h", param="completion_window")
    file = await find_file(held, asked.input_file_id, "input_file_id")
    if file.purpose != "batch":
        raise InvalidRequest(f"input_file_id: its purpose is {file.purpose!r}, not 'batch'", param="input_file_id")
    batch = await anyio.to_thread.run_sync(
        lambda: held.runtime.batches.create(
            held.caller_id,
            endpoint=asked.endpoint,
            window=asked.completion_window,
            input_file=file.id,
            metadata=asked.metadata,
        )
    )
    held.runtime.wake_batches.set()
    return _json(batch)


@routes.get("/v1/batches", summary="List batches")
async def list_batches(
    request: Request, after: After = None, limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 20
) -> Response:
    held = held_of(request.scope)

    def read() -> BatchPage:
        return held.runtime.batches.page(held.caller_id, after=after, limit=limit)

    try:
        found = await anyio.to_thread.run_sync(read)
    except NoSuchPlace as error:
        raise _not_found(str(error), "after") from error
    return list_response([batch.document() for batch in found.batches], has_more=found.has_more)


@routes.get("/v1/batches/{id}", summary="How far a batch is")
async def get_batch(request: Request, id: str) -> Response:
    return _json(await _find(held_of(request.scope), id))


@routes.post("/v1/batches/{id}/cancel", summary="Ask no more of a batch's requests")
async def cancel_batch(request: Request, id: str) -> Response:
    """What was answered until then is in the output file."""
    held = held_of(request.scope)
    await _find(held, id)
    moved = await anyio.to_thread.run_sync(held.runtime.batches.advance, id, Status.CANCELLING)
    batch = await _find(held, id)
    if not moved and not batch.cancelling:
        raise InvalidRequest(f"the batch is {batch.status.value}; nothing is left to cancel", code="batch_ended")
    held.runtime.wake_batches.set()
    return _json(batch)


async def _find(held: Held, id: str) -> Batch:
    """Raises NotFound."""
    batch = await anyio.to_thread.run_sync(held.runtime.batches.find, id, held.caller_id)
    if batch is None:
        raise _not_found(id)
    return batch


def _not_found(id: str, param: str | None = None) -> NotFound:
    return NotFound(f"there is no batch {id[:100]!r} of yours here", param=param, code="batch_not_found")


def _json(batch: Batch) -> Response:
    return Response(orjson.dumps(batch.document()), media_type="application/json")
