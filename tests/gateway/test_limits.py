"""Places and the queue of one engine: never more than allowed, and every place comes back."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway import limits
from gateway.limits import Limited
from models.engine import Call, Chunk, EngineBusy, EngineCut, EngineError, EngineUnavailable
from models.scripted import Say, ScriptedEngine, Wait
from tests.rig import Playing, say

pytestmark = pytest.mark.anyio

CALL = Call({"messages": []}, stream=True)


def limited(script: Playing, parallel: int = 1, queue: int = 8) -> tuple[Limited, ScriptedEngine]:
    engine = ScriptedEngine("small", script)
    return Limited(engine, parallel=parallel, queue=queue), engine


async def text_of(chunks: AsyncGenerator[Chunk, None]) -> str:
    deltas = [choice["delta"] async for chunk in chunks for choice in chunk.data["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_burst_takes_the_places_then_the_queue_and_the_rest_is_told_to_come_back() -> None:
    go = asyncio.Event()
    gate, engine = limited(lambda call: [Wait(go), Say("x")], parallel=2, queue=3)
    asking = [asyncio.create_task(text_of(gate.answer(CALL))) for _ in range(10)]
    await settle()
    assert (len(engine.calls), gate.waiting) == (2, 3)
    go.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers.count("x") == 5
    busy = [answer for answer in answers if isinstance(answer, EngineBusy)]
    assert len(busy) == 5
    assert all(error.retry_after_seconds for error in busy)
    assert gate.waiting == 0


async def test_first_come_first_served() -> None:
    go = asyncio.Event()
    gate, engine = limited(lambda call: [Wait(go), Say("x")])
    calls = [Call({"messages": [], "place": place}, stream=True) for place in range(6)]
    asking = [asyncio.create_task(text_of(gate.answer(call))) for call in calls]
    await settle()
    go.set()
    await asyncio.gather(*asking)
    assert engine.calls == calls


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(say("a", "b"), id="answered"),
        pytest.param(lambda call: [EngineUnavailable("x")], id="failed before the first chunk"),
        pytest.param(lambda call: [Say("a"), EngineCut("x")], id="cut"),
        pytest.param(lambda call: 1 / 0, id="the engine has a bug"),
    ],
)
async def test_a_place_comes_back_when_the_answer_ends(script: Playing) -> None:
    gate, engine = limited(script, queue=0)
    for _ in range(3):
        with contextlib.suppress(EngineError, ZeroDivisionError):
            await text_of(gate.answer(CALL))
    assert len(engine.calls) == 3


async def test_a_place_comes_back_when_the_answer_is_closed_early() -> None:
    gate, engine = limited(say("a", "b", "c"), queue=0)
    for _ in range(3):
        async with aclosing(gate.answer(CALL)) as chunks:
            await anext(chunks)
    assert engine.abandoned == 3


async def test_a_place_comes_back_when_the_answer_is_cancelled() -> None:
    gate, engine = limited(lambda call: [Wait()], queue=0)
    for _ in range(3):
        asking = asyncio.create_task(text_of(gate.answer(CALL)))
        await settle()
        asking.cancel()
        await asyncio.wait({asking})
    assert engine.abandoned == 3


async def test_an_answer_that_is_never_begun_takes_no_place() -> None:
    gate, engine = limited(say("a"), queue=0)
    await gate.answer(CALL).aclose()
    assert await text_of(gate.answer(CALL)) == "a"
    assert len(engine.calls) == 1


async def test_who_leaves_the_queue_makes_room_in_it() -> None:
    go = asyncio.Event()
    gate, engine = limited(lambda call: [Wait(go), Say("x")], queue=1)
    first, second = (asyncio.create_task(text_of(gate.answer(CALL))) for _ in range(2))
    await settle()
    second.cancel()
    await settle()
    assert gate.waiting == 0
    third = asyncio.create_task(text_of(gate.answer(CALL)))
    go.set()
    assert [await first, await third] == ["x", "x"]
    assert len(engine.calls) == 2


async def test_who_is_cancelled_just_as_a_place_falls_free_does_not_start_the_engine() -> None:
    """asyncio.wait_for of Python 3.11 loses a cancellation that comes together with the result."""
    gate, engine = limited(lambda call: [Wait()])
    first = asyncio.create_task(text_of(gate.answer(CALL)))
    await settle()
    second = asyncio.create_task(text_of(gate.answer(CALL)))
    await settle()
    first.cancel()
    for _ in range(20):  # at whichever step of the hand-over the cancellation comes
        await asyncio.sleep(0)
        if len(engine.calls) > 1 or second.done():
            break
        second.cancel()
    await asyncio.wait({second}, timeout=1)
    assert second.cancelled()
    assert len(engine.calls) == 1
    third = asyncio.create_task(text_of(gate.answer(CALL)))
    await settle()
    assert len(engine.calls) == 2, "the place is free again"
    third.cancel()
    await asyncio.wait({third})


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUE_TIMEOUT_SECONDS", 0.01)
    gate, _ = limited(lambda call: [Wait()])
    first = asyncio.create_task(text_of(gate.answer(CALL)))
    await settle()
    with pytest.raises(EngineBusy, match="no place was free") as busy:
        await text_of(gate.answer(CALL))
    assert busy.value.retry_after_seconds
    assert gate.waiting == 0
    first.cancel()
    await asyncio.wait({first})


@pytest.mark.parametrize("seed", range(5))
async def test_bounds_hold_and_no_place_is_lost_in_a_storm(seed: int) -> None:
    """200 requests that come, end, fail and are cancelled at random moments; afterwards all places are free."""
    dice = random.Random(seed)
    running = most = 0

    class Counting(ScriptedEngine):
        async def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                if dice.random() < 0.3:
                    raise EngineUnavailable("x")
                yield Chunk({"choices": []})
                await asyncio.sleep(0)
            finally:
                running -= 1

    gate = Limited(Counting("small", say()), parallel=3, queue=4)
    asking: list[asyncio.Task[str]] = []
    for _ in range(200):
        asking.append(asyncio.create_task(text_of(gate.answer(CALL))))
        if dice.random() < 0.5:
            await asyncio.sleep(0)
        if dice.random() < 0.4:
            dice.choice(asking).cancel()
        assert gate.waiting <= 4
    await asyncio.gather(*asking, return_exceptions=True)
    assert most == 3
    assert (running, gate.waiting) == (0, 0)
    held = [gate.answer(CALL) for _ in range(3)]
    dice.random = lambda: 1.0  # type: ignore[method-assign]  # no more failures
    async with asyncio.timeout(1):
        for chunks in held:
            await anext(chunks)
    for chunks in held:
        await chunks.aclose()
