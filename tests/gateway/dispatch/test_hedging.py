"""A second replica is asked when the first is silent; the first to answer wins, and the other stops."""

import asyncio
from random import Random

import pytest

from gateway.dispatch import BreakerState, Discarded, Dispatcher
from gateway.dispatch.breaker import FAILURES_IN_A_ROW
from gateway.dispatch.replicas import choose
from models.engine import Call, EngineError, EngineRefused, EngineUnavailable, Usage
from tests.gateway.dispatch.clock import now, settle
from tests.gateway.dispatch.fakes import FakeEngine, Play, after, at_once, engine_of, in_turn, silent

pytestmark = pytest.mark.anyio

HEDGE_AFTER_SECONDS = 2.0


def failing_after(seconds: float, problem: EngineError) -> Play:
    async def play(call: Call) -> None:
        await asyncio.sleep(seconds)
        raise problem

    return play


class Hedged:
    """A dispatcher with one engine that is asked first and others; `discarded` is what it reported."""

    def __init__(self, first: Play, *others: Play, parallel: int = 1, retries: int = 0) -> None:
        self.discarded: list[Discarded] = []
        self.engines = [FakeEngine(play) for play in (first, *others)]
        self.one = Dispatcher(
            {f"r{index}": engine for index, engine in enumerate(self.engines)},
            parallel=parallel,
            queue=8,
            retries=retries,
            hedge_after_seconds=HEDGE_AFTER_SECONDS,
            chance=Random(0),
            on_discarded=self.discarded.append,
        )
        self.call = Call({}, affinity=next(a for a in map(str, range(99)) if self._goes_first(a)))

    def _goes_first(self, affinity: str) -> bool:
        return choose(self.one.replicas, affinity, Random(0)).engine is self.engines[0]


async def test_the_second_is_not_asked_while_the_first_may_still_be_in_time() -> None:
    h = Hedged(after(1.9), at_once)
    await h.one.begin(h.call)
    assert (now(), h.one.hedges_total, len(h.engines[1].calls)) == (1.9, 0, 0)


async def test_the_second_answers_when_the_first_is_silent_and_the_first_stops() -> None:
    h = Hedged(silent, after(1.0))
    reply = await h.one.begin(h.call)
    assert (now(), engine_of(reply), h.one.hedges_total) == (3.0, h.engines[1], 1)
    await settle()
    assert (now(), h.engines[0].cancelled, h.engines[0].running) == (3.0, 1, 0)
    assert h.discarded == [Discarded(h.call, "r0", None, None)]
    assert [replica.in_flight for replica in h.one.replicas] == [0, 1]
    await reply.close()
    assert h.one.in_flight == 0


async def test_the_first_wins_when_it_answers_after_all() -> None:
    h = Hedged(after(2.5), silent)
    reply = await h.one.begin(h.call)
    await settle()
    assert engine_of(reply) is h.engines[0]
    assert h.discarded == [Discarded(h.call, "r1", None, None)]
    assert [replica.in_flight for replica in h.one.replicas] == [1, 0]


async def test_of_two_that_answer_together_one_is_closed_and_what_it_cost_reported() -> None:
    h = Hedged(after(3.0), after(1.0))
    reply = await h.one.begin(h.call)
    await settle()
    (discarded,) = h.discarded
    loser = h.engines[1 - h.engines.index(engine_of(reply))]
    assert (discarded.usage, discarded.engine_seconds) == (Usage(3, 1), 0.5)
    assert (loser.running, loser.closed, h.one.in_flight) == (0, 1, 1)


async def test_one_that_fails_leaves_the_other_time_to_answer() -> None:
    for first, second, winner in [
        (failing_after(2.5, EngineUnavailable("x")), after(1.0), 1),
        (after(4.0), failing_after(1.0, EngineUnavailable("x")), 0),
    ]:
        h = Hedged(first, second)
        assert engine_of(await h.one.begin(h.call)) is h.engines[winner]
        await settle()
        assert (h.discarded, h.one.in_flight) == ([], 1)


async def test_a_refusal_is_final() -> None:
    h = Hedged(silent, failing_after(1.0, EngineRefused("wrong", status=400)))
    with pytest.raises(EngineRefused):
        await h.one.begin(h.call)
    await settle()
    assert (h.one.in_flight, h.engines[0].running) == (0, 0)


async def test_when_both_fail_the_call_has_failed_once() -> None:
    h = Hedged(failing_after(3.0, EngineUnavailable("first")), failing_after(3.0, EngineUnavailable("second")))
    with pytest.raises(EngineUnavailable, match="second"):
        await h.one.begin(h.call)
    assert (now(), h.one.in_flight, h.discarded) == (5.0, 0, [])


async def test_when_both_fail_it_may_be_retried() -> None:
    fails = failing_after(3.0, EngineUnavailable("x"))
    h = Hedged(fails, in_turn(fails, at_once), retries=1)
    assert engine_of(await h.one.begin(h.call)) is h.engines[1]
    assert (now(), h.one.retries_total, h.one.in_flight) == (5.0, 1, 1)


async def test_a_failure_before_the_time_is_not_waited_over() -> None:
    h = Hedged(failing_after(1.0, EngineUnavailable("x")), at_once)
    with pytest.raises(EngineUnavailable):
        await h.one.begin(h.call)
    assert (now(), h.one.hedges_total) == (1.0, 0)


@pytest.mark.parametrize("at", [0.0, 1.0, 2.5])
async def test_a_caller_that_leaves_stops_both(at: float) -> None:
    h = Hedged(silent, silent)
    asking = asyncio.create_task(h.one.begin(h.call))
    await settle()
    await asyncio.sleep(at)
    asking.cancel()
    await asyncio.wait({asking})
    await settle()
    assert [engine.running for engine in h.engines] == [0, 0]
    assert (h.one.in_flight, h.discarded) == (0, [])
    assert all(replica.breaker.state is BreakerState.CLOSED for replica in h.one.replicas)


async def test_a_caller_that_leaves_before_the_engine_was_asked_leaves_no_place_behind() -> None:
    h = Hedged(silent, silent)
    for steps in range(6):
        asking = asyncio.create_task(h.one.begin(h.call))
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        await settle()
        assert (h.one.in_flight, h.engines[0].running) == (0, 0)


async def test_a_caller_that_leaves_as_the_answer_comes_leaves_nothing_open() -> None:
    h = Hedged(after(1.0), at_once)
    for steps in range(6):
        asking = asyncio.create_task(h.one.begin(h.call))
        await asyncio.sleep(1.0)
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled():
            await (await asking).close()
        await settle()
        assert (h.one.in_flight, h.engines[0].running) == (0, 0)


async def test_the_only_replica_is_asked_twice_if_it_has_a_place() -> None:
    h = Hedged(silent, parallel=2)
    h.engines[0].play = lambda call: (silent if len(h.engines[0].calls) == 1 else at_once)(call)
    await h.one.begin(h.call)
    assert (now(), len(h.engines[0].calls), h.one.in_flight) == (2.0, 2, 2)
    await settle()
    assert h.one.in_flight == 1
    full = Hedged(after(5.0), parallel=1)
    await full.one.begin(full.call)
    assert full.one.hedges_total == 0


async def test_a_second_is_asked_only_where_another_replica_has_a_place() -> None:
    h = Hedged(after(5.0), silent, parallel=1)
    h.one.replicas[1].in_flight = 1
    await h.one.begin(h.call)
    assert h.one.hedges_total == 0


async def test_no_second_is_asked_after_the_deadline() -> None:
    h = Hedged(after(5.0), at_once)
    reply = await h.one.begin(Call({}, affinity=h.call.affinity, deadline=2.0))
    assert engine_of(reply) is h.engines[0]


async def test_hedges_and_retries_share_one_budget() -> None:
    h = Hedged(after(3.0), after(3.0), parallel=1000, retries=1)
    for _ in range(102):
        await (await h.one.begin(h.call)).close()
        await settle()
    assert h.one.hedges_total == 23  # three, and a fifth of all but the first: three are the most to save
    for engine in h.engines:
        engine.play = failing_after(0.0, EngineUnavailable("x"))
    with pytest.raises(EngineUnavailable):
        await h.one.begin(h.call)
    assert h.one.retries_total == 0


async def test_a_replica_that_is_overtaken_again_and_again_is_left_alone() -> None:
    h = Hedged(at_once, at_once, parallel=1000)
    for _ in range(30):  # a fifth of them may be hedged at a time
        await h.one.begin(Call({}))
    h.engines[0].play = silent
    for _ in range(FAILURES_IN_A_ROW):
        assert engine_of(await h.one.begin(h.call)) is h.engines[1]
        await settle()
    assert h.one.replicas[0].breaker.state is BreakerState.OPEN
    start = now()
    assert engine_of(await h.one.begin(h.call)) is h.engines[1]
    assert now() == start
