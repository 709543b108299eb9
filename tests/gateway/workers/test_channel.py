"""Two processes that talk: either asks, each answer finds its question, and an end is noticed at once."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.workers.channel import Answering, Channel, Closed, Failed

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def talking(**answers: Answering) -> AsyncIterator[tuple[Channel, Channel]]:
    """Who asks, and who answers."""
    one, other = socket.socketpair()
    asking, answering = await Channel.open(one, {}), await Channel.open(other, answers)
    try:
        yield asking, answering
    finally:
        await asking.close()
        await answering.close()


async def test_answers_find_their_questions_in_whatever_order_they_come() -> None:
    first = asyncio.Event()

    async def echo(told: Any) -> Any:
        if told == "slow":
            await first.wait()
        else:
            first.set()
        return {"heard": told}

    async with talking(echo=echo) as (asking, _):
        slow, fast = await asyncio.gather(asking.ask("echo", "slow"), asking.ask("echo", "fast"))
        assert (slow, fast) == ({"heard": "slow"}, {"heard": "fast"})


async def test_who_is_asked_may_ask_back_before_it_answers() -> None:
    async def name(told: Any) -> str:
        return "ann"

    async def greet(told: Any) -> str:
        return f"hello {await answering.ask('name')}"

    async with talking(greet=greet) as (asking, answering):
        asking.answers["name"] = name
        assert await asking.ask("greet") == "hello ann"


async def test_a_failure_is_told_to_who_asked_and_the_talk_goes_on() -> None:
    async def fail(told: Any) -> None:
        raise ValueError("no such row")

    async def nod(told: Any) -> bool:
        return True

    async with talking(fail=fail, nod=nod) as (asking, _):
        with pytest.raises(Failed, match="no such row"):
            await asking.ask("fail")
        with pytest.raises(Failed):
            await asking.ask("something new")
        assert await asking.ask("nod")


async def test_the_end_of_one_is_the_end_of_every_question() -> None:
    async def never(told: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async with talking(never=never) as (asking, answering):
        question = asyncio.create_task(asking.ask("never"))
        await asyncio.sleep(0)
        await answering.close()
        with pytest.raises(Closed):
            await question
        assert asking.closed.is_set()
        with pytest.raises(Closed):
            await asking.ask("never")


async def test_a_long_line_arrives_whole() -> None:
    async def length(told: Any) -> int:
        return len(told)

    async with talking(length=length) as (asking, _):
        assert await asking.ask("length", "x" * 2**20) == 2**20
