"""How many tokens a prompt has, as OpenAI's and Anthropic's clients ask it. No model answers, so it is free."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api.responses import remembering
from gateway.errors import NotFound, of_engine
from gateway.held import Held, held_of
from gateway.prompting.naming import named_in
from gateway.runtime import decide
from gateway.schema import Asked, check, parse_object
from gateway.shapes import messages, responses
from models.engine import Call, EngineError, EngineRefused, Operation

routes = APIRouter(tags=["inference"])

UNKNOWN_PATH_STATUSES = (404, 405, 501)  # of servers that cannot count


@routes.post("/v1/messages/count_tokens", summary="Count the tokens of a prompt, as Anthropic does")
async def count_tokens(request: Request) -> Response:
    """The same body as for messages, without `max_tokens`."""
    held = held_of(request.scope)
    body = {"max_tokens": 1, **parse_object(await request.body())}
    named = named_in(held, body)
    chat = messages.to_chat(body if named is None else named.shown(body))
    asked = check(chat, 0, held.runtime.catalog) if named is None else named.asked(held.runtime, chat)
    return _json({"input_tokens": await _count(held, asked)})


@routes.post("/v1/responses/input_tokens", summary="Count the tokens of a prompt, as Responses do")
async def input_tokens(request: Request) -> Response:
    """The same body as for responses."""
    held = held_of(request.scope)
    sent = parse_object(await request.body())
    named = named_in(held, sent)
    body, history = await remembering(held, sent if named is None else named.shown(sent))
    chat = responses.to_chat(body, history)
    asked = check(chat, 0, held.runtime.catalog) if named is None else named.asked(held.runtime, chat)
    tokens = await _count(held, asked)
    return _json({"object": "response.input_tokens", "input_tokens": tokens})


async def _count(held: Held, asked: Asked) -> int:
    """The tokens of *asked* for the model that would answer it first. Raises GatewayError."""
    runtime = held.runtime
    chosen, _ = decide(runtime.strategy, runtime.knowledge, runtime.catalog, asked, held.known_caller)
    call = Call(asked.told(chosen.model).body, operation=Operation.COUNT, request_id=held.request_id)
    try:
        reply = await runtime.engines[chosen.model].begin(call)
    except EngineRefused as error:
        if error.status in UNKNOWN_PATH_STATUSES:
            raise NotFound(f"the server of {chosen.model} cannot count tokens", param="model") from error
        raise of_engine(error) from error
    except EngineError as error:
        raise of_engine(error) from error
    await reply.close()
    return int(orjson.loads(reply.first)["input_tokens"])


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
