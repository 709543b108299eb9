"""The race between an answer and the client's leaving: one of them wins, and no work goes on unwatched."""

import asyncio

import pytest
from starlette.types import Message, Receive

from gateway.client import ClientGone, until_gone

pytestmark = pytest.mark.anyio


def client(*messages: Message) -> Receive:
    """Sends *messages*, then stays connected and silent."""
    waiting = list(messages)

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("never")

    return receive


LEAVES: Message = {"type": "http.disconnect"}
SENDS: Message = {"type": "http.request", "body": b"", "more_body": False}


async def test_the_result_of_work_that_ends_first() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await until_gone(client(), work()) == 7
    assert await until_gone(client(SENDS, SENDS), work()) == 7


async def test_the_error_of_work_that_fails_first() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await until_gone(client(), work())


async def test_work_is_cancelled_and_has_ended_when_the_client_is_gone() -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)  # what stopping an engine takes
            ended = True

    with pytest.raises(ClientGone):
        await until_gone(client(SENDS, LEAVES), work())
    assert ended


async def test_an_answer_that_is_ready_when_the_client_leaves_counts_as_given() -> None:
    async def work() -> int:
        return 7

    assert await until_gone(client(LEAVES), work()) == 7


async def test_nothing_is_left_running_when_the_request_itself_is_cancelled() -> None:
    before = asyncio.all_tasks()

    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    request = asyncio.create_task(until_gone(client(), work()))
    await asyncio.sleep(0)
    request.cancel()
    await asyncio.wait({request})
    assert request.cancelled()
    assert asyncio.all_tasks() == before
