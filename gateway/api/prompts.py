"""/v1/prompts: the management of the prompt library, for admins. A prompt's id is a path, so what is asked of it comes
after it; an id that ends in one of these words is reached in the list alone.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import anyio.to_thread
import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from gateway.api.prompt_bodies import (
    CanaryWire,
    MoveWire,
    RenderWire,
    RollbackWire,
    VersionWire,
    override_in,
    template_in,
)
from gateway.api.prompt_errors import library_errors
from gateway.errors import InvalidRequest, NotAllowed, NotFound, NotLookedAt
from gateway.held import Held, held_of
from gateway.keys import Role
from gateway.library.canaries import CanaryStore, no_canary
from gateway.library.documents import (
    alarms_of,
    canary_document,
    gate_document,
    move_document,
    prompt_document,
    version_document,
    version_line,
)
from gateway.library.edit import edit_of, keys_of
from gateway.library.exchange import exported, take
from gateway.library.records import Origin, Saved, Trial, Who
from gateway.library.store import NO_POLICY, LibraryStore
from gateway.schema import checked, parse_object
from prompts.library import Library
from prompts.receipt import Receipt
from prompts.reference import NUMBER, reference
from prompts.render import render
from prompts.suite_document import document_of, suite_of

routes = APIRouter(tags=["prompts"], prefix="/v1")

Id = Annotated[str, Path(min_length=1, max_length=512, description="a path, such as support/triage")]
Label = Annotated[str, Path(min_length=1, max_length=36)]
Asked = Annotated[str, Query(min_length=1, max_length=64, description="a number or a label")]
Answer = TypeVar("Answer")
OBJECT = {"type": "object"}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "the number the label points to now; If-None-Match: * where it is not there yet",
}


def _body(schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}}}


MOVE_SCHEMA = MoveWire.model_json_schema()
MOVE_SCHEMA["properties"]["override"] = {"anyOf": [*MOVE_SCHEMA.pop("$defs").values(), {"type": "null"}]}
RENDER = _body(RenderWire.model_json_schema())
TAKE = _body({"type": "string", "minLength": 1}, "text/plain")
MOVE = {**_body(MOVE_SCHEMA), "parameters": [IF_MATCH]}
CANARY = {**_body(CanaryWire.model_json_schema()), "parameters": [IF_MATCH]}
STOP = {"parameters": [IF_MATCH]}
ROLLBACK = {**_body(RollbackWire.model_json_schema()), "parameters": [IF_MATCH]}
LINES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A JSON object a line", "content": {"application/jsonl": {}}}
}


@routes.get("/prompts", summary="List the prompts")
async def list_prompts(request: Request) -> Response:
    held = _admin(request)
    library, standing = held.runtime.library, held.runtime.standing
    return _list([prompt_document(library, prompt, standing) for prompt in sorted(library.versions)])


@routes.post("/prompts", summary="Save a version", openapi_extra=_body(VersionWire.model_json_schema()))
async def save_version(request: Request) -> Response:
    """The same content is the same version: saving it again changes nothing."""
    held = _admin(request)
    said = checked(parse_object(await request.body()), VersionWire)
    template = template_in(said)
    origin: Origin = "draft" if said.draft else "api"

    def save(store: LibraryStore) -> Saved:
        store.save(template, origin=origin, author=_who(held).name, message=said.message, parent=said.parent)
        return next(one for one in store.saved(said.id) if one.version.template == template)

    return await _changed(request, held, save, lambda saved: version_document(saved, *_seen(held, saved)))


@routes.get("/prompts:export", summary="Everything as lines of JSON", response_class=Response, responses=LINES)
async def export(request: Request) -> Response:
    return StreamingResponse(exported(_admin(request).runtime.prompts), media_type="application/jsonl")


@routes.post("/prompts:import", summary="Take exported lines", openapi_extra=TAKE)
async def take_lines(request: Request) -> Response:
    """No label moves. A line that is not taken is told, and the others are."""
    held, text = _admin(request), await request.body()
    if not text.strip():
        raise InvalidRequest("there are no lines; send those of an export")
    return await _changed(
        request,
        held,
        lambda store: take(store, text, _who(held).name),
        lambda done: {"object": "prompt.import", "counts": done.counts, "left_out": list(done.left_out)},
    )


@routes.get("/prompts/{id:path}/versions", summary="A prompt's versions, the oldest first")
async def list_versions(request: Request, id: Id) -> Response:
    held = _admin(request)
    saved = await _asked(held, lambda store: store.saved(reference(id).id))
    return _list([version_line(one, *_seen(held, one)) for one in saved])


@routes.get("/prompts/{id:path}/diff", summary="What is another between two versions")
async def compare(
    request: Request,
    id: Id,
    from_: Annotated[str, Query(alias="from", min_length=1, max_length=64)],
    to: Asked = "latest",
) -> Response:
    """In text, in tokens a call of each tier, and in money a day at the calls of the last four weeks, each model at its
    price and cached share. Tokens are guessed from characters; `pointsman prompts diff --tokens` counts them.
    """
    held = _admin(request)

    def compared(store: LibraryStore) -> dict[str, Any]:
        library = store.library()
        old, new = library.find(reference(id, from_)), library.find(reference(id, to))
        sides, rows = (old.template, new.template), held.runtime.catalog.models
        traffic = store.traffic(keys_of(sides, library.versions[old.template.id].values()))
        edit = edit_of(*sides, store.lineup, library.policy, rows, traffic)
        return {"object": "prompt.diff", "from": old.number, "to": new.number, **edit.document()}

    return _json(await _asked(held, compared))


@routes.post(
    "/prompts/{id:path}/render",
    summary="What a model would be told",
    openapi_extra=_body(RenderWire.model_json_schema()),
)
async def show(request: Request, id: Id) -> Response:
    """No model is called."""
    held = _admin(request)
    said = checked(parse_object(await request.body()), RenderWire)

    def rendered(store: LibraryStore) -> dict[str, Any]:
        version = store.library().find(reference(id, said.version))
        made = render(version.template, said.tier, said.variables, said.messages)
        return {
            "object": "prompt.rendered",
            "id": id,
            "version": version.number,
            "variant": made.variant,
            "messages": made.messages,
            "parameters": dict(made.parameters),
        }

    return _json(await _asked(held, rendered))


@routes.get("/prompts/{id:path}/gate", summary="What a gated label would ask of a version now")
async def look_at_gate(
    request: Request,
    id: Id,
    version: Asked = "latest",
    excluded: Annotated[list[str], Query(max_length=32)] = [],  # noqa: B006  # FastAPI's way; nobody changes it
) -> Response:
    held = _admin(request)

    def looked(store: LibraryStore) -> dict[str, Any]:
        number = store.library().find(reference(id, version)).number
        return gate_document(store.gate(id, number, excluded))

    return _json(await _asked(held, looked))


@routes.get("/prompts/{id:path}/labels/{label}/history", summary="Where a label has been, the newest first")
async def list_moves(request: Request, id: Id, label: Label) -> Response:
    held = _admin(request)
    wanted = reference_of(id, label)
    moves = await _asked(held, lambda store: store.history(wanted, label))
    return _list([move_document(move) for move in moves])


@routes.post(
    "/prompts/{id:path}/labels/{label}/rollback", summary="Move a label back to what it held", openapi_extra=ROLLBACK
)
async def roll_back(request: Request, id: Id, label: Label) -> Response:
    held, expected = _admin(request), _expected(request)
    said = checked(parse_object(await request.body()), RollbackWire)
    wanted = reference_of(id, label)
    return await _changed(
        request,
        held,
        lambda store: store.rollback(
            wanted, label, expected=expected, by=_who(held), number=said.version, message=said.message
        ),
        move_document,
    )


@routes.get("/prompts/{id:path}/labels/{label}/canary", summary="How far a label's last canary has come")
async def get_canary(request: Request, id: Id, label: Label) -> Response:
    """Its ETag is the label's, as If-Match asks for it."""
    held, wanted = _admin(request), reference_of(id, label)

    def found(store: LibraryStore) -> tuple[dict[str, Any], int]:
        trial = CanaryStore(store).of(wanted, label)
        if trial is None:
            raise no_canary(wanted, label)
        return canary_document(trial), store.library().labels[wanted][label]

    document, at = await _asked(held, found)
    return _json(document, etag=at)


@routes.put("/prompts/{id:path}/labels/{label}/canary", summary="Try a version under a label", openapi_extra=CANARY)
async def begin_canary(request: Request, id: Id, label: Label) -> Response:
    """A share of the label's requests goes to it, on a cheaper tier, and more as its answers prove themselves; then the
    label goes there by itself. The version needs what a gated label asks for; otherwise 409, with the rows.
    """
    held, expected = _admin(request), _expected(request)
    said = checked(parse_object(await request.body()), CanaryWire)
    wanted, bar = reference_of(id, label), held.runtime.knowledge.bar

    def begin(store: LibraryStore) -> Trial:
        begun = CanaryStore(store).begin
        more: dict[str, Any] = {"bar": bar, "excluded": said.excluded, "message": said.message}
        return begun(wanted, label, said.version, said.tier, expected=expected, by=_who(held), **more)

    return await _changed(request, held, begin, canary_document, etag=expected)


@routes.delete("/prompts/{id:path}/labels/{label}/canary", summary="Stop a canary", openapi_extra=STOP)
async def stop_canary(request: Request, id: Id, label: Label) -> Response:
    """All requests are answered by the label's version again. Begun again, the canary goes on where it was."""
    held, expected = _admin(request), _expected(request)
    wanted = reference_of(id, label)
    return await _changed(
        request,
        held,
        lambda store: CanaryStore(store).stop(wanted, label, expected=expected, by=_who(held)),
        canary_document,
        etag=expected,
    )


@routes.get("/prompts/{id:path}/labels/{label}", summary="Where a label points")
async def get_label(request: Request, id: Id, label: Label) -> Response:
    """Its ETag is what If-Match asks for. `gated` and `alarms`: whether what is there has to show anything, and what it
    has not, as this process serves it.
    """
    held = _admin(request)

    def found(store: LibraryStore) -> dict[str, Any]:
        library = store.library()
        version = library.find(reference(id, _label(label)))
        return {
            "object": "prompt.label",
            "prompt": id,
            "label": label,
            "version": version.number,
            "excluded": sorted(version.excluded),
            "gated": library.policy.labels.get(label, NO_POLICY).gated,
            "alarms": alarms_of(held.runtime.standing, id, label),
        }

    document = await _asked(held, found)
    return _json(document, etag=document["version"])


@routes.put("/prompts/{id:path}/labels/{label}", summary="Point a label to a version", openapi_extra=MOVE)
async def put_label(request: Request, id: Id, label: Label) -> Response:
    """A gated label goes to what has proved itself on every tier that is not excluded; otherwise 409, with the rows."""
    held, expected = _admin(request), _expected(request)
    said = checked(parse_object(await request.body()), MoveWire)
    override = override_in(said.override)
    wanted = reference_of(id, label)
    return await _changed(
        request,
        held,
        lambda store: store.move_label(
            wanted,
            label,
            said.version,
            expected=expected,
            by=_who(held),
            excluded=said.excluded,
            override=override,
            message=said.message,
        ),
        move_document,
        etag=said.version,
    )


@routes.get("/prompts/{id:path}/suite", summary="What a prompt's versions are asked")
async def get_suite(request: Request, id: Id) -> Response:
    suite = await _asked(_admin(request), lambda store: store.suite(reference(id).id))
    if suite is None:
        raise NotFound(f"{id[:80]!r} has no suite; put one here", code="prompt_suite_not_found")
    return _json({"object": "prompt.suite", "digest": suite.digest, **document_of(suite)})


@routes.put("/prompts/{id:path}/suite", summary="Ask this of a prompt's versions", openapi_extra=_body(OBJECT))
async def put_suite(request: Request, id: Id) -> Response:
    """In the words of tests.yaml: gate, tests, defaultTest. Receipts of another suite are stale from then on."""
    held, said = _admin(request), parse_object(await request.body())

    def put(store: LibraryStore) -> dict[str, Any]:
        suite = suite_of(said)
        store.add_suite(reference(id).id, suite, author=_who(held).name)
        return {"object": "prompt.suite", "digest": suite.digest, "cases": len(suite.cases)}

    return await _changed(request, held, put, lambda document: document)


@routes.get("/prompts/{id:path}/receipts", summary="What runs of the suite have shown, the newest first")
async def list_receipts(request: Request, id: Id) -> Response:
    receipts = await _asked(_admin(request), lambda store: store.receipts(reference(id).id))
    return _list([{"object": "prompt.receipt", **receipt.document()} for receipt in receipts])


@routes.post("/prompts/{id:path}/receipts", summary="Add what a run has shown", openapi_extra=_body(OBJECT))
async def add_receipt(request: Request, id: Id) -> Response:
    held, said = _admin(request), parse_object(await request.body())
    said.pop("object", None)
    try:
        receipt = Receipt.read(said)
    except ValueError as error:
        raise InvalidRequest(f"{error}; send it as it was made", code="prompt_receipt_refused") from error

    def add(store: LibraryStore) -> dict[str, Any]:
        store.add_receipt(reference(id).id, receipt, author=_who(held).name)
        return {"object": "prompt.receipt", **receipt.document()}

    return await _changed(request, held, add, lambda document: document)


@routes.get("/prompts/{id:path}", summary="A version of a prompt, whole")
async def get_version(request: Request, id: Id, version: Asked = "latest") -> Response:
    held = _admin(request)

    def found(store: LibraryStore) -> Saved:
        number = store.library().find(reference(id, version)).number
        return next(one for one in store.saved(id) if one.version.number == number)

    saved = await _asked(held, found)
    return _json(version_document(saved, *_seen(held, saved)))


def reference_of(id: str, label: str) -> str:
    """The id, if it is one and *label* a label."""
    with library_errors():
        return reference(id, _label(label)).id


def _admin(request: Request) -> Held:
    held = held_of(request.scope)
    if held.known_caller.role is not Role.ADMIN:
        raise NotAllowed("this needs the key of an admin: pointsman keys create NAME --role admin", code="admin_only")
    return held


def _who(held: Held) -> Who:
    """The caller, whose roles are those of the key: its own, its id, and its team."""
    caller = held.known_caller
    team = () if caller.team is None else (caller.team,)
    return Who(f"{caller.name} ({caller.id})", frozenset((caller.role.value, caller.id, *team)))


def _label(label: str) -> str:
    """A number in the place of a label is none. Raises InvalidRequest."""
    if NUMBER.fullmatch(label):
        raise InvalidRequest(f"{label} is a version, and no label: a letter comes first", param="label")
    return label


def _expected(request: Request) -> int | None:
    """Where the client saw the label. Raises NotLookedAt, InvalidRequest."""
    if request.headers.get("if-none-match", "").strip() == "*":
        return None
    seen = request.headers.get("if-match")
    if seen is None:
        raise NotLookedAt(
            "say where the label is now, so that nobody's move is undone: If-Match: its version's number, as GET gives "
            "it in ETag; If-None-Match: * where it is not there yet",
            param="If-Match",
        )
    number = seen.strip().removeprefix("W/").strip('"')
    if not NUMBER.fullmatch(number):
        raise InvalidRequest("If-Match is the number of the version that the label points to", param="If-Match")
    return int(number)


def _seen(held: Held, saved: Saved) -> tuple[dict[str, int], frozenset[str]]:
    """The labels of its prompt and the tiers it may be sent to, as they serve now."""
    library: Library = held.runtime.library
    return dict(library.labels.get(saved.version.template.id, {})), held.runtime.prompt_tiers(saved.version)


async def _asked(held: Held, ask: Callable[[LibraryStore], Answer]) -> Answer:
    with library_errors():
        return await anyio.to_thread.run_sync(ask, held.runtime.prompts)


async def _changed(
    request: Request,
    held: Held,
    change: Callable[[LibraryStore], Answer],
    document: Callable[[Answer], dict[str, Any]],
    etag: int | None = None,
) -> Response:
    """Do it, and let this process serve by it before the answer: whoever asks next sees his own change here."""
    done = await _asked(held, change)
    await request.app.state.publish()
    return _json(document(done), etag=etag)


def _list(documents: list[dict[str, Any]]) -> Response:
    return _json({"object": "list", "data": documents})


def _json(document: dict[str, Any], etag: int | None = None) -> Response:
    headers = {} if etag is None else {"etag": f'"{etag}"'}
    return Response(orjson.dumps(document), headers=headers, media_type="application/json")
