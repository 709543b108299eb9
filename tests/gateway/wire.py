"""What the tests of the front door share: requests as bytes on a socket, the shape of an error, and waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import orjson
from openai.types.chat import ChatCompletionUserMessageParam

from tests.rig import Rig

OpenRig = Callable[..., AbstractAsyncContextManager[Rig]]

CHAT = "/v1/chat/completions"
ERROR_KEYS = {"message", "type", "param", "code"}
USER: ChatCompletionUserMessageParam = {"role": "user", "content": "three small words"}
READ_LIMIT_BYTES = 1 << 20
POLL_SECONDS = 0.005


def chat(model: str = "large", **fields: Any) -> dict[str, Any]:
    """A chat-completions body with one user message of three words."""
    return {"model": model, "messages": [USER], **fields}


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The error object, after checking what every error response has."""
    document = response.json()
    assert set(document) == {"error"}, document
    return checked_error(document["error"], response.headers)


def checked_error(error: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    assert set(error) == ERROR_KEYS
    assert error["message"]
    assert headers["x-request-id"].startswith("req_")
    return error


def events_of(response: httpx2.Response) -> list[str]:
    """The payloads of an event stream, which has nothing but one-line `data` events."""
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, end = response.text.split("\n\n")
    assert end == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events), events
    return [event.removeprefix("data: ") for event in events]


async def until(happened: Callable[[], bool], timeout_seconds: float = 1.0) -> None:
    """Returns when *happened*; raises TimeoutError when it has not in time."""
    async with asyncio.timeout(timeout_seconds):
        while not happened():  # noqa: ASYNC110  # counters are plain numbers
            await asyncio.sleep(POLL_SECONDS)


def request_bytes(r: Rig, body: Mapping[str, Any]) -> bytes:
    """A chat request as a client writes it."""
    written = orjson.dumps(body)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {r.key}\r\ncontent-length: {len(written)}\r\n\r\n"
    )
    return head.encode() + written


@asynccontextmanager
async def connection(r: Rig, sent: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A TCP connection on which *sent* has been written; closed on leaving, as a client does that hangs up."""
    host, port = r.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        await writer.drain()
        yield reader
    finally:
        writer.close()
        await asyncio.wait({asyncio.ensure_future(writer.wait_closed())})  # a reset is no news here


async def raw_response(reader: asyncio.StreamReader, timeout_seconds: float = 1.0) -> httpx2.Response:
    """The next response on the connection; its body must have a content-length."""
    async with asyncio.timeout(timeout_seconds):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    return httpx2.Response(int(status_line.split()[1]), headers=headers, content=body)
