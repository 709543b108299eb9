"""/v1/files: OpenAI's Files. An upload goes to disk while it arrives; each caller sees only its own."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import anyio.to_thread
import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from gateway.errors import BodyTooLarge, InvalidRequest, NotFound, StorageFull
from gateway.files import PURPOSES, Arriving, FilePage, StoredFile
from gateway.form import FormReader
from gateway.held import Held, held_of
from gateway.pages import NoSuchPlace

routes = APIRouter(tags=["files"])

WRITE_BYTES = 1 << 20  # a write is a trip to a thread: not one for each packet
PAGE_LIMIT = 10_000  # OpenAI's
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ID_LIMIT_CHARACTERS = 64
FORM_SCHEMA = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
    },
}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM_SCHEMA}}}}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes that were uploaded", "content": {"application/octet-stream": {}}}
}

After = Annotated[str | None, Query(max_length=ID_LIMIT_CHARACTERS, description="the last id of the page before")]


@routes.post("/v1/files", summary="Keep a file", openapi_extra=UPLOAD)
async def create_file(request: Request) -> Response:
    held = held_of(request.scope)
    form = FormReader(request.headers.get("content-type", ""))
    with _storage():
        arriving = await anyio.to_thread.run_sync(held.runtime.files.begin)
        try:
            await _receive(request, form, arriving, held.runtime.settings.file_limit_bytes)
            purpose = _purpose(form)
            assert form.filename is not None
            kept = await anyio.to_thread.run_sync(
                held.runtime.files.keep, arriving, held.caller_id, form.filename, purpose
            )
        finally:
            arriving.drop()
    return _json(kept.document())


@routes.get("/v1/files", summary="List files")
async def list_files(
    request: Request,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = PAGE_LIMIT,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=32)] = None,
) -> Response:
    held = held_of(request.scope)

    def read() -> FilePage:
        return held.runtime.files.page(
            held.caller_id, after=after, limit=limit, descending=order == "desc", purpose=purpose
        )

    try:
        found = await anyio.to_thread.run_sync(read)
    except NoSuchPlace as error:
        raise _not_found(str(error), "after") from error
    return list_response([file.document() for file in found.files], has_more=found.has_more)


@routes.get("/v1/files/{id}", summary="What is known of a file")
async def get_file(request: Request, id: str) -> Response:
    return _json((await find_file(held_of(request.scope), id)).document())


@routes.delete("/v1/files/{id}", summary="Delete a file")
async def delete_file(request: Request, id: str) -> Response:
    held = held_of(request.scope)
    await find_file(held, id)
    if await anyio.to_thread.run_sync(held.runtime.batches.is_reading, id):
        raise InvalidRequest("a batch reads this file; cancel it, or wait until it has ended", code="file_in_use")
    if not await anyio.to_thread.run_sync(held.runtime.files.delete, id, held.caller_id):
        raise _not_found(id)
    return _json({"id": id, "object": "file", "deleted": True})


@routes.get("/v1/files/{id}/content", summary="A file's content", response_class=Response, responses=CONTENT)
async def get_content(request: Request, id: str) -> Response:
    file = await find_file(held_of(request.scope), id)
    if not await anyio.to_thread.run_sync(file.path.is_file):
        raise _not_found(id)
    return FileResponse(file.path, filename=file.filename, media_type="application/octet-stream")


async def find_file(held: Held, id: str, param: str | None = None) -> StoredFile:
    """Raises NotFound."""
    file = await anyio.to_thread.run_sync(held.runtime.files.find, id, held.caller_id)
    if file is None:
        raise _not_found(id, param)
    return file


def list_response(documents: list[dict[str, Any]], *, has_more: bool) -> Response:
    """A page as OpenAI words it."""
    first, last = (documents[0]["id"], documents[-1]["id"]) if documents else (None, None)
    return _json({"object": "list", "data": documents, "first_id": first, "last_id": last, "has_more": has_more})


async def _receive(request: Request, form: FormReader, arriving: Arriving, limit_bytes: int) -> None:
    """Raises InvalidRequest, BodyTooLarge, OSError."""
    waiting = bytearray()
    async for piece in request.stream():
        waiting += form.feed(piece)
        if arriving.size_bytes + len(waiting) > limit_bytes:
            raise BodyTooLarge(f"the file is larger than {limit_bytes} bytes (POINTSMAN_FILE_LIMIT_BYTES)")
        if len(waiting) >= WRITE_BYTES:
            await anyio.to_thread.run_sync(arriving.write, bytes(waiting))
            waiting.clear()
    form.end()
    await anyio.to_thread.run_sync(arriving.write, bytes(waiting))


def _purpose(form: FormReader) -> str:
    for name in form.fields:
        if name.startswith("expires_after"):
            raise InvalidRequest("files do not expire here; delete it when it has served", param="expires_after")
    purpose = form.fields.get("purpose")
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose: must be one of {', '.join(PURPOSES)}", param="purpose")
    return purpose


@contextmanager
def _storage() -> Iterator[None]:
    """A disk that takes no more is no fault of the request's, and is told as such."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageFull("no room is left for files; delete some, or tell the operator") from error


def _not_found(id: str, param: str | None = None) -> NotFound:
    return NotFound(f"there is no file {id[:100]!r} of yours here", param=param, code="file_not_found")


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
