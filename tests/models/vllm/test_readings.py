"""What a server says of itself is read seldom, briefly and in vain without harm."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vllm.readings import KEPT_SECONDS, Reader, Readings, readings_of

pytestmark = pytest.mark.anyio

SAID = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 200.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.795654450755e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 50.0
"""
READ = Readings(2, 3, 0.25, 0.25)


def test_a_few_of_its_numbers_are_read() -> None:
    assert readings_of(SAID) == READ


def test_before_the_first_prompt_no_share_of_hits_is_known() -> None:
    fresh = SAID.replace(" 200.0", " 0.0").replace(" 50.0", " 0.0")

    assert readings_of(fresh) == Readings(2, 3, 0.25, None)


@given(st.text(max_size=300))
def test_nonsense_is_no_reading_and_no_error(text: str) -> None:
    assert readings_of(text) is None
    readings_of(SAID.replace("2.0", text))


@asynccontextmanager
async def saying(text: bytes, answered: Callable[[], object] = lambda: None) -> AsyncIterator[str]:
    """A server that answers each request so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answered()
        writer.write(text)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()


async def test_several_scrapes_are_one_question() -> None:
    asked, now = list[None](), [100.0]
    async with saying(http(SAID), lambda: asked.append(None)) as address:
        reader = Reader(address, lambda: now[0])
        assert [await reader.read() for _ in range(3)] == [READ] * 3
        assert len(asked) == 1
        now[0] += KEPT_SECONDS
        assert await reader.read() == READ
        assert len(asked) == 2
        await reader.close()


@pytest.mark.parametrize("text", [http(SAID, "503 Busy"), http("nothing"), b"", b"garbage\r\n\r\n"])
async def test_a_server_that_says_nothing_useful_is_no_error(text: bytes) -> None:
    async with saying(text) as address:
        reader = Reader(address)
        assert await reader.read() is None
        await reader.close()


async def test_nobody_there_is_no_error() -> None:
    reader = Reader("http://127.0.0.1:1")
    assert await reader.read() is None
    await reader.close()
