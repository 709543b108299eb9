"""/v1/responses: OpenAI's Responses, kept for as long as the operator says, so that one may go on from another."""

import secrets
from typing import Any

import anyio.to_thread
import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api.voices import Translated, Voice
from gateway.errors import InvalidRequest, NotFound
from gateway.held import Held, held_of
from gateway.learning.aside import HEADER as SHADOW_HEADER
from gateway.prompting.naming import named_in
from gateway.responses import Kept, ResponseStore
from gateway.schema import Asked, check, parse_object
from gateway.shapes import responses

routes = APIRouter(tags=["responses"])

NAMED_RESPONSES_LIMIT = 64  # whose items one request may refer to; each is read from the database


class _Responding(Translated):
    """Keeps what it has said, before the client has the last of it, unless the client asked for `store: false`."""

    def __init__(self, held: Held, body: dict[str, Any], *, id: str, history: list[responses.Item]) -> None:
        super().__init__(responses, body, id=id)
        self._held = held
        self._history = history

    async def ended(self, answer: dict[str, Any]) -> None:
        if self._body.get("store") is False:
            return
        items = [*self._history, *responses.items_of(self._body, answer)]
        kept = Kept(answer["id"], self._held.caller_id, self._body.get("previous_response_id"), items, answer)
        await anyio.to_thread.run_sync(self._held.runtime.responses.keep, kept)


async def read(held: Held, raw: bytes) -> tuple[Asked, Voice]:
    """Raises InvalidRequest, ModelNotFound, NotFound."""
    sent = parse_object(raw)
    named = named_in(held, sent)
    if named is not None:
        sent = named.shown(sent)
    body, history = await remembering(held, sent)
    if body.get("store") is False:  # the chat body does not say so, and who wants nothing kept wants nothing compared
        held.headers[SHADOW_HEADER] = b"off"
    chat = responses.to_chat(body, history)
    if named is not None:
        asked = named.asked(held.runtime, chat)
    else:
        body_bytes = len(raw) if body is sent and not history else len(orjson.dumps([body, history]))
        asked = check(chat, body_bytes, held.runtime.catalog)
    return asked, _Responding(held, body, id=f"resp_{secrets.token_hex(16)}", history=history)


async def remembering(held: Held, body: dict[str, Any]) -> tuple[dict[str, Any], list[responses.Item]]:
    """*body* with the kept items that it refers to, and the items of the response that it goes on from. Raises
    InvalidRequest, NotFound.
    """
    previous = body.get("previous_response_id")
    history: list[responses.Item] = []
    if previous is not None:
        if not isinstance(previous, str):
            raise InvalidRequest("previous_response_id: must be a string", param="previous_response_id")
        history = (await _kept(held, previous, "previous_response_id")).items
    named = await _named(held, body, {item["id"] for item in history})
    return (responses.repeating(body, named) if named else body), history


async def _named(held: Held, body: dict[str, Any], known: set[str]) -> dict[str, responses.Item]:
    """The items that *body* refers to and that are not *known*, and what was kept beside them, by their ids. Clients
    that keep the conversation themselves, such as the Vercel AI SDK, send all of it so. Raises InvalidRequest.
    """
    named: dict[str, responses.Item] = {}
    looked_up: set[str] = set()
    for item in reversed(responses.references(body)):  # the newest response has most of the others' items
        response = None if item in known or item in named else responses.response_of(item)
        if response is None or response in looked_up:
            continue
        looked_up.add(response)
        if len(looked_up) > NAMED_RESPONSES_LIMIT:
            raise InvalidRequest(
                f"input refers to items of more than {NAMED_RESPONSES_LIMIT} responses; use previous_response_id",
                param="input",
            )
        kept = await anyio.to_thread.run_sync(_store(held).find, response, held.caller_id)
        if kept is not None:
            named.update((kept_item["id"], kept_item) for kept_item in kept.items)
    return named


def body_schema() -> dict[str, Any]:
    """The least that a request has, as JSON Schema; the translation checks the rest."""
    return {
        "type": "object",
        "required": ["model", "input"],
        "properties": {
            "model": {"type": "string"},
            "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
            "stream": {"type": "boolean"},
            "store": {"type": "boolean"},
            "previous_response_id": {"type": "string"},
        },
    }


@routes.get("/v1/responses/{id}", summary="A response that was kept")
async def get_response(request: Request, id: str) -> Response:
    return _json((await _kept(held_of(request.scope), id)).document)


@routes.delete("/v1/responses/{id}", summary="Forget a response")
async def delete_response(request: Request, id: str) -> Response:
    held = held_of(request.scope)
    if not await anyio.to_thread.run_sync(_store(held).forget, id, held.caller_id):
        raise _not_found(id)
    return _json({"id": id, "object": "response", "deleted": True})


@routes.get("/v1/responses/{id}/input_items", summary="What a kept response answered, newest first")
async def list_input_items(request: Request, id: str) -> Response:
    kept = await _kept(held_of(request.scope), id)
    items = kept.items[: len(kept.items) - len(kept.document["output"])][::-1]
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
    return _json({"object": "list", "data": items, "has_more": False, **ends})


def _store(held: Held) -> ResponseStore:
    return held.runtime.responses


async def _kept(held: Held, id: str, param: str | None = None) -> Kept:
    kept = await anyio.to_thread.run_sync(_store(held).find, id, held.caller_id)
    if kept is None:
        raise _not_found(id, param)
    return kept


def _not_found(id: str, param: str | None = None) -> NotFound:
    return NotFound(
        f"there is no response {id[:100]!r} of yours here: it was not kept, has expired, or belongs to another key",
        param=param,
        code="response_not_found",
    )


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
