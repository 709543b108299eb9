"""The client's leaving ends the work for it, and no watch is left behind."""

import asyncio

import pytest
from starlette.types import Message, Receive

from gateway import client as client_module
from gateway.client import ClientGone, leaving_stops, read_body

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _watch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "WATCH_AFTER_SECONDS", 0.0)


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


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_read_whole_in_one_or_many_parts() -> None:
    assert await read_body(client(part(b"abc", more=False))) == b"abc"
    assert await read_body(client(part(b"ab", more=True), part(b"", more=True), part(b"c", more=False))) == b"abc"


async def test_a_client_that_leaves_while_it_sends_is_gone() -> None:
    with pytest.raises(ClientGone):
        await read_body(client(part(b"ab", more=True), LEAVES))
    with pytest.raises(ClientGone):
        await read_body(client(LEAVES))


async def test_work_that_ends_first_is_not_disturbed() -> None:
    with leaving_stops(client()):
        await asyncio.sleep(0)
    with leaving_stops(client(SENDS, SENDS)):
        await asyncio.sleep(0.01)


async def test_the_error_of_work_that_fails_first() -> None:
    with pytest.raises(KeyError), leaving_stops(client()):
        raise KeyError("x")


async def test_work_is_cancelled_and_has_ended_when_the_client_is_gone() -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)  # what stopping an engine takes
            ended = True

    with pytest.raises(ClientGone), leaving_stops(client(SENDS, LEAVES)):
        await work()
    assert ended
    await asyncio.sleep(0)  # nothing of the cancellation is left for whoever comes after


async def test_an_answer_that_is_ready_when_the_client_leaves_counts_as_given() -> None:
    with leaving_stops(client(LEAVES)):
        pass
    await asyncio.sleep(0.01)


async def test_a_cancellation_from_elsewhere_is_not_taken_for_the_clients_leaving() -> None:
    before = asyncio.all_tasks()

    async def work() -> None:
        with leaving_stops(client()):
            await asyncio.get_running_loop().create_future()

    request = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    request.cancel()
    await asyncio.wait({request})
    assert request.cancelled()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
