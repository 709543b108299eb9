"""Whatever happens in whatever order, the limits hold, every call ends, and every place comes back."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dispatch import Dispatcher
from gateway.dispatch.breaker import LONGEST_OPEN_SECONDS
from gateway.dispatch.replicas import LONGEST_COOLDOWN_SECONDS
from models.engine import Call, EngineBusy, EngineError, EngineRefused, EngineUnavailable, Reply
from tests.gateway.dispatch.clock import now, settle, simulate
from tests.gateway.dispatch.fakes import FakeEngine, at_once

QUEUE = 3
PROBLEMS = [
    lambda: EngineUnavailable("down"),
    lambda: EngineBusy("busy"),
    lambda: EngineBusy("slow down", retry_after_seconds=3.0),
    lambda: EngineRefused("wrong", status=400),
    lambda: ZeroDivisionError("a bug of ours"),
]

which = st.integers(0, 5)
begins = st.tuples(
    st.just("begin"), st.integers(-1, 2), st.sampled_from([None, "x", "y"]), st.sampled_from([None, None, 4.0])
)
steps = st.one_of(
    begins,
    begins,
    begins,
    st.tuples(st.just("answer"), which),
    st.tuples(st.just("fail"), which, st.sampled_from(PROBLEMS)),
    st.tuples(st.just("cancel"), which),
    st.tuples(st.just("close"), which),
    st.tuples(st.just("pass"), st.floats(0.0, 30.0)),
)
rows = st.fixed_dictionaries(
    {
        "parallel": st.sampled_from([1, 1, 2]),
        "retries": st.integers(0, 2),
        "hedge_after_seconds": st.sampled_from([None, None, 1.0]),
    }
)


@dataclass
class Storm:
    """A dispatcher and everything that is going on in it."""

    one: Dispatcher
    engines: list[FakeEngine]
    parallel: int
    asked: list[asyncio.Future[None]] = field(default_factory=list)
    tasks: list[asyncio.Task[Reply]] = field(default_factory=list)
    cancelled: set[asyncio.Task[Reply]] = field(default_factory=set)
    closed: set[Reply] = field(default_factory=set)

    @classmethod
    def of(cls, engine_count: int, row: dict[str, Any]) -> "Storm":
        engines = [FakeEngine() for _ in range(engine_count)]
        named = {str(index): engine for index, engine in enumerate(engines)}
        storm = cls(Dispatcher(named, queue=QUEUE, chance=Random(0), **row), engines, row["parallel"])
        for engine in engines:
            engine.play = storm.play
        return storm

    async def play(self, call: Call) -> None:
        self.asked.append(asyncio.get_running_loop().create_future())
        await self.asked[-1]

    async def step(self, kind: str, *details: Any) -> None:
        if kind == "begin":
            priority, affinity, patience = details
            deadline = None if patience is None else now() + patience
            call = Call({}, priority=priority, affinity=affinity, deadline=deadline)
            self.tasks.append(asyncio.create_task(self.one.begin(call)))
        elif kind == "pass":
            await asyncio.sleep(details[0])
        elif kind == "close":
            await self.close(details[0])
        elif kind == "cancel":
            if running := [task for task in self.tasks if not task.done()]:
                task = running[details[0] % len(running)]
                self.cancelled.add(task)
                task.cancel()
        elif waiting := [asked for asked in self.asked if not asked.done()]:
            asked = waiting[details[0] % len(waiting)]
            if kind == "answer":
                asked.set_result(None)
            else:
                asked.set_exception(details[1]())

    async def close(self, index: int) -> None:
        answered = [task for task in self.tasks if task.done() and not task.cancelled() and task.exception() is None]
        if held := [task.result() for task in answered if task.result() not in self.closed]:
            reply = held[index % len(held)]
            self.closed.add(reply)
            await reply.close()

    def check(self) -> None:
        for engine, replica in zip(self.engines, self.one.replicas, strict=True):
            assert replica.in_flight == engine.running
            assert engine.most <= self.parallel
        assert self.one.waiting <= QUEUE
        free = [r for r in self.one.replicas if r.in_flight < self.parallel and r.admits(now())]
        assert not (self.one.waiting and free), "someone waits for a place that is free"

    async def calm_down(self) -> None:
        """All engines answer from now on, and all replies are closed."""
        for engine in self.engines:
            engine.play = at_once
        for asked in self.asked:
            if not asked.done():
                asked.set_result(None)
        for task in self.tasks:
            try:
                await (await task).close()
            except asyncio.CancelledError:
                assert task in self.cancelled
            except (EngineError, ZeroDivisionError):
                continue
        await settle()


@given(st.sampled_from([1, 1, 2, 3]), rows, st.lists(steps, min_size=10, max_size=80))
@settings(max_examples=150)
def test_limits_hold_and_no_place_and_no_waiter_is_lost(
    engine_count: int, row: dict[str, Any], steps: list[tuple[Any, ...]]
) -> None:
    async def play() -> None:
        storm = Storm.of(engine_count, row)
        for step in steps:
            await storm.step(*step)
            await settle()
            storm.check()
        await storm.calm_down()
        storm.check()
        assert (storm.one.in_flight, storm.one.waiting) == (0, 0)
        await every_place_can_be_taken(storm)

    simulate(play())


@pytest.mark.parametrize("hedge_after_seconds", [None, 1.0])
@pytest.mark.parametrize("engine_count", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_no_place_is_lost_when_everything_happens_at_once(
    seed: int, engine_count: int, hedge_after_seconds: float | None
) -> None:
    """A long storm without time to settle in between: cancellations meet places, answers and errors."""
    dice = Random(seed)
    row = {"parallel": 2, "retries": 1, "hedge_after_seconds": hedge_after_seconds}

    async def play() -> None:
        storm = Storm.of(engine_count, row)
        for _ in range(1000):
            await storm.step(*random_step(dice))
            for _ in range(dice.choice([0, 0, 1, 2, 10])):
                await asyncio.sleep(0)
            assert all(engine.most <= storm.parallel for engine in storm.engines)
        await storm.calm_down()
        storm.check()
        assert (storm.one.in_flight, storm.one.waiting) == (0, 0)
        await every_place_can_be_taken(storm)

    simulate(play())


def random_step(dice: Random) -> tuple[Any, ...]:
    kind = dice.choices(["begin", "answer", "fail", "cancel", "close", "pass"], weights=[8, 4, 1, 2, 4, 1])[0]
    if kind == "begin":
        return kind, dice.randint(-1, 2), dice.choice([None, "x"]), dice.choice([None, 4.0])
    if kind == "pass":
        return kind, dice.uniform(0, 2)
    return kind, dice.randrange(6), dice.choice(PROBLEMS)


async def every_place_can_be_taken(storm: Storm) -> None:
    """After a while, without affinity, the dispatcher has all the places it began with."""
    await asyncio.sleep(LONGEST_OPEN_SECONDS + LONGEST_COOLDOWN_SECONDS)
    count = len(storm.engines) * storm.parallel
    for _ in range(len(storm.engines)):  # probes
        probes = [asyncio.create_task(storm.one.begin(Call({}))) for _ in storm.engines]
        for probe in probes:
            await (await probe).close()
    held = [await storm.one.begin(Call({})) for _ in range(count)]
    assert storm.one.in_flight == count
    for reply in held:
        await reply.close()
    assert storm.one.in_flight == 0
