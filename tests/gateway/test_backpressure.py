"""A client that reads slowly slows the engine down; nothing piles up in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from models.upstream import OpenAIUpstream
from tests.gateway.wire import OpenRig, connection, request_bytes
from tests.rig import CATALOG

pytestmark = pytest.mark.anyio

EVENT = (
    b"data: " + orjson.dumps({"model": "far", "choices": [{"index": 0, "delta": {"content": "x" * 4096}}]}) + b"\n\n"
)
EVENTS = 20_000  # 80 MB
HELD_LIMIT_BYTES = (
    16 * 2**20
)  # buffers of three sockets and two processes' transports; the answer is five times as long
FAR = """  - name: far
    engine: openai
    tier: 0
    context_tokens: 9
    base_url: http://127.0.0.1:1/v1
"""
WITH_FAR = CATALOG.replace("aliases:\n", f"{FAR}aliases:\n")


class Torrent:
    """A server that answers with a stream as fast as it is taken. `sent_bytes` are those it could get rid of."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            for _ in range(EVENTS):
                writer.write(EVENT)
                await writer.drain()
                self.sent_bytes += len(EVENT)
            writer.write(b"data: [DONE]\n\n")
        except ConnectionError:
            pass
        finally:
            self.ended.set()
            writer.close()


@asynccontextmanager
async def torrent() -> AsyncIterator[tuple[Torrent, OpenAIUpstream]]:
    flow = Torrent()
    server = await asyncio.start_server(flow.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = OpenAIUpstream(base_url=f"http://127.0.0.1:{port}/v1", name="far")
    async with server:
        yield flow, engine


async def settled(flow: Torrent) -> int:
    """What has been sent once no more is taken."""
    before = -1
    while flow.sent_bytes != before:
        before = flow.sent_bytes
        await asyncio.sleep(0.3)
    return before


async def test_an_engine_waits_for_a_client_that_does_not_read(rig: OpenRig) -> None:
    async with torrent() as (flow, engine), rig(catalog=WITH_FAR, others={"far": engine}) as r:
        asked = request_bytes(r, {"model": "far", "messages": [{"role": "user", "content": "x"}], "stream": True})
        async with connection(r, asked) as reader:
            held = await settled(flow)
            assert 0 < held < HELD_LIMIT_BYTES
            await reader.readuntil(b"\r\n\r\n")
            while flow.sent_bytes < held + HELD_LIMIT_BYTES:
                assert await reader.read(2**20)
        await asyncio.wait_for(flow.ended.wait(), 2.0)  # and it learns that the client has left
        [row] = await r.charges(1)
        assert row["outcome"] == "gone"
