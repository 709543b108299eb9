"""An OpenAI-speaking server that answers at once: for measuring the gateway, never for claims about quality."""

import orjson
from starlette.types import Receive, Scope, Send

CHUNKS = 32
USAGE = {"prompt_tokens": 80, "completion_tokens": CHUNKS, "total_tokens": 80 + CHUNKS}
HEAD = {"id": "chatcmpl-fake", "created": 1_700_000_000, "model": "fake"}
MESSAGE = {"role": "assistant", "content": "word " * 300}
WHOLE = orjson.dumps(
    {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "usage": USAGE,
    }
)


def _event(**fields: object) -> bytes:
    return b"data: " + orjson.dumps({**HEAD, "object": "chat.completion.chunk", **fields}) + b"\n\n"


EVENTS = [
    *(
        _event(choices=[{"index": 0, "delta": {"content": f"word {place} "}, "finish_reason": None}])
        for place in range(CHUNKS)
    ),
    _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
    _event(choices=[], usage=USAGE),
    b"data: [DONE]\n\n",
]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/livez":
        await _respond(send, b"application/json", [b"{}"])
    elif orjson.loads(body).get("stream"):
        await _respond(send, b"text/event-stream", EVENTS)
    else:
        await _respond(send, b"application/json", [WHOLE])


async def _respond(send: Send, media_type: bytes, pieces: list[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media_type)]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
