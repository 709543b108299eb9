"""Places, the queue, retries, breakers and cooldowns, as a caller sees them."""

import asyncio
import contextlib
from collections.abc import Callable
from random import Random

import pytest

from gateway.dispatch import Breaker, BreakerState, Dispatcher, Shed
from gateway.dispatch.line import EVERY_NTH_TURN
from gateway.dispatch.places import QUEUE_TIMEOUT_SECONDS
from models.catalog import Model
from models.engine import (
    Call,
    ContextTooLong,
    Engine,
    EngineBusy,
    EngineCut,
    EngineError,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Reply,
)
from tests.gateway.dispatch.clock import now, settle
from tests.gateway.dispatch.fakes import (
    FakeEngine,
    Play,
    after,
    at_once,
    cut,
    engine_of,
    failing,
    in_turn,
    silent,
)

pytestmark = pytest.mark.anyio

CALL = Call({})


def down() -> EngineUnavailable:
    return EngineUnavailable("down")


def busy() -> EngineBusy:
    return EngineBusy("busy")


def limited() -> EngineBusy:
    return EngineBusy("slow down", retry_after_seconds=10.0)


def refused() -> EngineRefused:
    return EngineRefused("wrong", status=422)


def dispatcher(*engines: FakeEngine, parallel: int = 1, queue: int = 8, retries: int = 0) -> Dispatcher:
    named = {f"r{index}": engine for index, engine in enumerate(engines)}
    return Dispatcher(named, parallel=parallel, queue=queue, retries=retries, chance=Random(1))


def asking(one: Dispatcher, call: Call = CALL) -> asyncio.Task[Reply]:
    return asyncio.create_task(one.begin(call))


async def cancel(task: asyncio.Task[Reply]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def fail_times(one: Dispatcher, times: int) -> None:
    for _ in range(times):
        with pytest.raises(EngineError):
            await one.begin(CALL)


# Places and the queue


async def test_how_long_a_call_would_wait_is_told_by_those_before_it() -> None:
    one = dispatcher(FakeEngine(), FakeEngine(), parallel=2)
    assert (one.turns_before, one.call_seconds) == (0.0, None)
    replies = [await one.begin(CALL) for _ in range(4)]
    assert one.turns_before == 0.25  # of four places the first that comes free
    waiting = [asking(one) for _ in range(3)]
    await settle()
    assert one.turns_before == 1.0
    await asyncio.sleep(8.0)
    for reply in replies:
        await reply.close()
    assert one.call_seconds == 8.0
    for task in waiting:
        await (await task).close()
    assert (one.turns_before, one.waiting) == (0.0, 0)


async def test_a_burst_takes_the_places_then_the_queue_and_the_rest_is_told_to_come_back() -> None:
    engine = FakeEngine()
    one = dispatcher(engine, parallel=2, queue=3)
    asked = [asking(one) for _ in range(10)]
    await settle()
    assert (engine.running, one.in_flight, one.waiting) == (2, 2, 3)
    errors = [task.exception() for task in asked[5:]]
    assert all(isinstance(error, EngineBusy) and error.retry_after_seconds for error in errors)
    assert one.shed == {Shed.QUEUE_FULL: 5}
    for task in asked[:5]:
        await (await task).close()
    assert (engine.most, len(engine.calls)) == (2, 5)
    assert (engine.running, one.in_flight, one.waiting) == (0, 0, 0)


async def test_a_place_is_held_until_the_reply_is_closed_and_given_back_once() -> None:
    engine = FakeEngine()
    one = dispatcher(engine)
    reply = await one.begin(CALL)
    assert (reply.first, await reply.more()) == (b"first", b"")
    waiting = asking(one)
    await settle()
    assert (one.in_flight, one.waiting) == (1, 1)
    await reply.close()
    await reply.close()
    second = await waiting
    assert one.in_flight == 1
    await second.close()
    assert one.in_flight == 0


@pytest.mark.parametrize(
    "problem",
    [down, busy, limited, refused, lambda: ContextTooLong("x"), lambda: ZeroDivisionError("a bug of ours")],
)
async def test_a_place_comes_back_when_no_reply_comes(problem: Callable[[], Exception]) -> None:
    one = dispatcher(FakeEngine(failing(problem)))
    with pytest.raises(type(problem())):
        await one.begin(CALL)
    assert one.in_flight == 0


async def test_a_place_comes_back_when_the_answer_is_cut() -> None:
    one = dispatcher(FakeEngine())
    reply = await one.begin(CALL)
    cut(reply)
    with pytest.raises(EngineCut):
        await reply.more()
    await reply.close()
    assert one.in_flight == 0


async def test_a_place_comes_back_when_the_call_is_cancelled_and_the_engine_stops() -> None:
    engine = FakeEngine(silent)
    one = dispatcher(engine)
    for _ in range(3):
        task = asking(one)
        await settle()
        await cancel(task)
        assert one.in_flight == 0
    assert (engine.cancelled, engine.running) == (3, 0)


async def served_in_order(one: Dispatcher, engine: FakeEngine, calls: list[Call]) -> list[Call]:
    """The order in which *calls*, which arrive while the only place is held, get it."""
    holding = await one.begin(CALL)
    tasks = []
    for call in calls:
        tasks.append(asking(one, call))
        await settle()
    await holding.close()

    async def pass_on(task: asyncio.Task[Reply]) -> None:
        await (await task).close()

    await asyncio.gather(*map(pass_on, tasks))
    return engine.calls[1:]


async def test_first_come_first_served() -> None:
    engine = FakeEngine()
    calls = [Call({"number": number}) for number in range(20)]
    assert await served_in_order(dispatcher(engine, queue=20), engine, calls) == calls


async def test_smaller_priorities_go_first() -> None:
    engine = FakeEngine()
    calls = [Call({"number": number}, priority=priority) for number, priority in enumerate([5, 0, 5, -1, 0, 9])]
    order = await served_in_order(dispatcher(engine), engine, calls)
    assert [call.body["number"] for call in order] == [3, 1, 4, 0, 2, 5]


async def test_every_eighth_place_goes_to_who_has_waited_longest() -> None:
    engine = FakeEngine()
    batch, urgent = Call({"kind": "batch"}, priority=9), Call({"kind": "urgent"})
    order = await served_in_order(dispatcher(engine, queue=99), engine, [batch, batch, *[urgent] * 30])
    assert [number for number, call in enumerate(order, start=1) if call is batch] == [
        EVERY_NTH_TURN,
        2 * EVERY_NTH_TURN,
    ]


async def test_nobody_waits_longer_than_the_queue_allows() -> None:
    one = dispatcher(FakeEngine())
    await one.begin(CALL)
    with pytest.raises(EngineBusy, match="no place was free within 120 s") as problem:
        await one.begin(CALL)
    assert (now(), problem.value.retry_after_seconds) == (QUEUE_TIMEOUT_SECONDS, 2.0)
    assert (one.waiting, one.shed) == (0, {Shed.QUEUE_TIMEOUT: 1})


async def test_nobody_waits_beyond_the_deadline_of_the_call() -> None:
    engine = FakeEngine()
    one = dispatcher(engine)
    await one.begin(CALL)
    with pytest.raises(EngineBusy, match="deadline"):
        await one.begin(Call({}, deadline=7.0))
    assert (now(), one.waiting) == (7.0, 0)
    with pytest.raises(EngineBusy, match="deadline"):
        await one.begin(Call({}, deadline=7.0))
    assert one.shed == {Shed.DEADLINE: 2}
    assert len(engine.calls) == 1


async def test_no_work_is_begun_after_the_deadline_even_with_a_free_place() -> None:
    engine = FakeEngine()
    await asyncio.sleep(5)
    with pytest.raises(EngineBusy):
        await dispatcher(engine).begin(Call({}, deadline=5.0))
    assert engine.calls == []


async def test_who_leaves_the_queue_makes_room_in_it() -> None:
    one = dispatcher(FakeEngine(), queue=1)
    holding = await one.begin(CALL)
    second = asking(one)
    await settle()
    await cancel(second)
    assert one.waiting == 0
    third = asking(one)
    await settle()
    await holding.close()
    await (await third).close()
    assert one.in_flight == 0


async def test_who_is_cancelled_just_as_a_place_falls_free_does_not_keep_it() -> None:
    engine = FakeEngine()
    one = dispatcher(engine)
    holding, second = await one.begin(CALL), asking(one)
    await settle()
    await holding.close()  # the place is given to the second, which has not run since
    assert (one.waiting, one.in_flight) == (0, 1)
    await cancel(second)
    assert (second.cancelled(), len(engine.calls), one.in_flight) == (True, 1, 0)


async def test_a_place_that_falls_free_just_as_its_next_is_cancelled_goes_to_the_one_after() -> None:
    engine = FakeEngine()
    one = dispatcher(engine)
    holding, second, third = await one.begin(CALL), asking(one), asking(one)
    await settle()
    second.cancel()  # it has not run since, so it is still in the queue
    await holding.close()
    await third
    assert (second.cancelled(), len(engine.calls), one.in_flight) == (True, 2, 1)


async def test_who_is_cancelled_just_as_it_is_turned_away_is_cancelled() -> None:
    one = dispatcher(FakeEngine())
    await one.begin(CALL)
    second = asking(one)
    await settle()
    stopping = asyncio.create_task(one.stop())
    await asyncio.sleep(0)  # it has been turned away, and has not run since
    assert (one.waiting, second.done()) == (0, False)
    await cancel(second)
    assert second.cancelled()
    await stopping


async def test_a_call_that_comes_later_does_not_overtake_the_queue() -> None:
    engine = FakeEngine()
    one = dispatcher(engine)
    holding = await one.begin(CALL)
    first, second = Call({"number": 1}), Call({"number": 2})
    waiting = asking(one, first)
    await settle()
    await holding.close()
    late = asking(one, second)
    await (await waiting).close()
    await late
    assert engine.calls == [CALL, first, second]


async def test_a_call_that_comes_as_a_replica_comes_back_does_not_overtake_the_queue() -> None:
    engines = FakeEngine(), FakeEngine(in_turn(failing(limited), at_once))
    one = dispatcher(*engines)
    while one.replicas[1].admits(now()) or not one.replicas[0].in_flight:
        with contextlib.suppress(EngineBusy):
            await one.begin(CALL)
    first, second = Call({"number": 1}), Call({"number": 2})
    waiting = asking(one, first)
    await asyncio.sleep(10)
    late = asking(one, second)
    await (await waiting).close()
    await late
    assert engines[1].calls == [CALL, first, second]


# Retries


async def test_a_failed_call_is_repeated_at_another_replica_at_once() -> None:
    engines = FakeEngine(failing(down)), FakeEngine()
    one = dispatcher(*engines, retries=1, parallel=2)
    for _ in range(4):
        await (await one.begin(CALL)).close()
    assert (now(), len(engines[1].calls)) == (0.0, 4)
    assert one.retries_total == len(engines[0].calls) > 0


async def test_the_only_replica_is_asked_again_after_a_pause() -> None:
    engine = FakeEngine(in_turn(failing(down), failing(busy), at_once))
    one = dispatcher(engine, retries=2)
    await one.begin(CALL)
    assert 0 < now() < 0.2 + 0.4
    assert (one.retries_total, len(engine.calls)) == (2, 3)


async def test_who_pauses_before_a_retry_holds_no_place() -> None:
    engine = FakeEngine(in_turn(failing(down), at_once))
    one = dispatcher(engine, retries=1)
    pausing = asking(one)
    await settle()
    assert one.in_flight == 0
    await (await one.begin(CALL)).close()
    await pausing


async def test_a_call_is_repeated_no_more_often_than_the_row_allows() -> None:
    for retries in (0, 1, 2):
        engine = FakeEngine(failing(down))
        with pytest.raises(EngineUnavailable, match="down"):
            await dispatcher(engine, retries=retries).begin(CALL)
        assert len(engine.calls) == 1 + retries


@pytest.mark.parametrize("problem", [refused, lambda: ContextTooLong("x"), lambda: ZeroDivisionError("x")])
async def test_what_another_attempt_would_not_change_is_not_repeated(problem: Callable[[], Exception]) -> None:
    engines = FakeEngine(failing(problem)), FakeEngine(failing(problem))
    one = dispatcher(*engines, retries=5)
    with pytest.raises(type(problem())):
        await one.begin(CALL)
    assert (one.retries_total, sum(len(engine.calls) for engine in engines)) == (0, 1)


async def test_nothing_is_repeated_after_the_first_block() -> None:
    engine = FakeEngine()
    reply = await dispatcher(engine, retries=5).begin(CALL)
    cut(reply)
    with pytest.raises(EngineCut):
        await reply.more()
    assert len(engine.calls) == 1


async def test_nothing_is_repeated_after_the_deadline() -> None:
    async def play(call: Call) -> None:
        await asyncio.sleep(3)
        raise down()

    engines = FakeEngine(play), FakeEngine(play)
    with pytest.raises(EngineUnavailable, match="down"):
        await dispatcher(*engines, retries=5).begin(Call({}, deadline=3.0))
    assert sum(len(engine.calls) for engine in engines) == 1


async def test_a_pause_that_would_end_after_the_deadline_is_not_begun() -> None:
    engine = FakeEngine(failing(down))
    with pytest.raises(EngineUnavailable, match="down"):
        await dispatcher(engine, retries=5).begin(Call({}, deadline=1e-6))
    assert (now(), len(engine.calls)) == (0.0, 1)


async def test_an_engine_that_says_it_is_not_ready_is_not_asked_again_and_not_held_against() -> None:
    """It starts or restarts, and tells when it is done; meanwhile another model can answer at once."""
    engine = FakeEngine(failing(down), state=EngineState.RESTARTING)
    one = dispatcher(engine, retries=1)
    await fail_times(one, 20)
    assert (now(), len(engine.calls), one.replicas[0].breaker.state) == (0.0, 20, BreakerState.CLOSED)


@pytest.mark.parametrize("at_a_time", [1, 10])
@pytest.mark.parametrize("breaking", [True, False])
async def test_a_retry_storm_stays_below_a_fifth(
    at_a_time: int, breaking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a failure rate of one half, over 1,000 calls, alone or together, and without the help of breakers."""
    if not breaking:
        monkeypatch.setattr(Breaker, "failure", lambda breaker, at: None)
    chance = Random(0)

    async def play(call: Call) -> None:
        await asyncio.sleep(0.01)
        if chance.random() < 0.5:
            raise EngineUnavailable("down")

    engines = [FakeEngine(play) for _ in range(3)]
    one = dispatcher(*engines, parallel=10, queue=99, retries=3)
    failures = 0

    async def ask() -> None:
        nonlocal failures
        try:
            await (await one.begin(CALL)).close()
        except EngineError:
            failures += 1

    for _ in range(1000 // at_a_time):
        await asyncio.gather(*(ask() for _ in range(at_a_time)))
    asked = sum(len(engine.calls) for engine in engines)
    assert asked <= 1200 + 3
    if not breaking:
        assert 1190 <= asked == 1000 + one.retries_total, "the budget is used"
        assert failures < 450
    assert (one.in_flight, one.waiting) == (0, 0)


# Breakers


async def test_after_five_failures_the_engine_is_left_alone_and_the_caller_told_when_it_may_be_back() -> None:
    engine = FakeEngine(failing(down))
    one = dispatcher(engine)
    await fail_times(one, 5)
    assert one.replicas[0].breaker.state is BreakerState.OPEN
    await asyncio.sleep(0.5)
    with pytest.raises(EngineUnavailable, match="left alone") as problem:
        await one.begin(CALL)
    assert problem.value.retry_after_seconds == 1.5
    assert (len(engine.calls), one.shed) == (5, {Shed.OPEN: 1})


async def test_one_probe_at_a_time_finds_out_whether_the_engine_is_back() -> None:
    engine = FakeEngine(in_turn(*[failing(down)] * 5, after(1.0), at_once))
    one = dispatcher(engine, parallel=4)
    await fail_times(one, 5)
    await asyncio.sleep(2)
    probe = asking(one)
    await settle()
    with pytest.raises(EngineUnavailable, match="left alone"):
        await one.begin(CALL)
    await probe
    assert one.replicas[0].breaker.state is BreakerState.CLOSED
    await one.begin(CALL)
    assert len(engine.calls) == 7


async def test_a_refusal_shows_that_the_engine_is_alive() -> None:
    engine = FakeEngine(
        in_turn(*([failing(down)] * 4 + [failing(refused)]) * 2, *[failing(down)] * 5, failing(refused))
    )
    one = dispatcher(engine)
    await fail_times(one, 14)
    assert one.replicas[0].breaker.state is BreakerState.CLOSED
    await fail_times(one, 1)
    assert not one.replicas[0].admits(now())
    await asyncio.sleep(2)
    with pytest.raises(EngineRefused):
        await one.begin(CALL)
    assert one.replicas[0].breaker.state is BreakerState.CLOSED


async def test_who_waits_for_an_engine_that_goes_out_is_told_at_once() -> None:
    async def play(call: Call) -> None:
        await asyncio.sleep(1)
        raise down()

    one = dispatcher(FakeEngine(play), queue=20)
    tasks = [asking(one) for _ in range(10)]
    await asyncio.wait(tasks)
    assert now() == 5.0
    assert [str(task.exception()) for task in tasks].count("down") == 5
    assert (one.shed, one.waiting) == ({Shed.OPEN: 5}, 0)


async def test_who_waits_gets_a_place_at_a_replica_that_comes_back() -> None:
    """Nothing else wakes it: the other replica is held all the time."""
    for problem, back_at in [(down, 2.0), (limited, 10.0)]:
        start = now()
        engines = FakeEngine(), FakeEngine(in_turn(*[failing(problem)] * (5 if problem is down else 1), at_once))
        one = dispatcher(*engines, parallel=2)
        held: list[Reply] = []
        while len(held) < 2:  # both places of the replica that works
            with contextlib.suppress(EngineError):
                held.append(await one.begin(CALL))
        while one.replicas[1].admits(now()):
            await fail_times(one, 1)
        waiting = [asking(one), asking(one)]
        await settle()
        assert one.waiting == 2
        assert [engine_of(await task) for task in waiting] == [engines[1]] * 2
        assert back_at <= now() - start < back_at + 0.01


async def test_a_cancelled_probe_lets_who_waits_try() -> None:
    engines = FakeEngine(), FakeEngine(in_turn(*[failing(down)] * 5, silent, at_once))
    one = dispatcher(*engines)
    while not one.replicas[0].in_flight:
        with contextlib.suppress(EngineError):
            await one.begin(CALL)
    while one.replicas[1].admits(now()):
        await fail_times(one, 1)
    await asyncio.sleep(3)
    probe, waiting = asking(one), asking(one)
    await settle()
    assert (engines[1].running, one.waiting) == (1, 1)
    await cancel(probe)
    await waiting
    assert now() == 3.0


async def test_a_dead_replica_costs_hardly_any_errors_and_is_found_again() -> None:
    """1,000 calls; one of three replicas is dead for the first half of the time."""

    def dead_until(seconds: float) -> Play:
        async def play(call: Call) -> None:
            await asyncio.sleep(0.05)
            if now() < seconds:
                raise down()

        return play

    for dies in (0, 1, 2):
        engines = [FakeEngine(after(0.05)) for _ in range(3)]
        start = now()
        engines[dies].play = dead_until(start + 50)
        one = dispatcher(*engines, parallel=4, retries=1)
        errors = 0
        for _ in range(1000):
            try:
                await (await one.begin(CALL)).close()
            except EngineError:
                errors += 1
            await asyncio.sleep(0.05)
        assert errors <= 5
        assert one.replicas[dies].breaker.state is BreakerState.CLOSED, "found again within 30 s"
        assert len(engines[dies].calls) > 100


async def test_a_silent_replica_is_left_alone_once_its_calls_have_timed_out() -> None:
    async def timing_out(call: Call) -> None:
        await asyncio.sleep(2)
        raise EngineUnavailable("no answer within 2 s")

    engines = [FakeEngine(after(0.05)), FakeEngine(timing_out), FakeEngine(after(0.05))]
    one = dispatcher(*engines, parallel=4, retries=1, queue=50)
    errors = 0

    async def ask() -> None:
        nonlocal errors
        try:
            await (await one.begin(CALL)).close()
        except EngineError:
            errors += 1

    tasks = []
    for _ in range(1000):
        tasks.append(asyncio.create_task(ask()))
        await asyncio.sleep(0.05)
    await asyncio.gather(*tasks)
    assert errors <= 5
    assert len(engines[1].calls) < 30


# Cooldowns


async def test_an_engine_that_asks_to_be_left_alone_is_and_that_is_no_failure() -> None:
    engine = FakeEngine(in_turn(failing(limited), at_once))
    one = dispatcher(engine, retries=3)
    with pytest.raises(EngineBusy, match="slow down"):
        await one.begin(CALL)
    await asyncio.sleep(4)
    with pytest.raises(EngineBusy, match="left alone") as problem:
        await one.begin(CALL)
    assert problem.value.retry_after_seconds == 6.0
    assert (len(engine.calls), one.shed, one.replicas[0].cooldowns_total) == (1, {Shed.COOLING: 1}, 1)
    assert one.replicas[0].breaker.state is BreakerState.CLOSED
    await asyncio.sleep(6)
    await one.begin(CALL)


async def test_any_number_of_cooldowns_does_not_open_the_breaker() -> None:
    one = dispatcher(FakeEngine(failing(limited)))
    for _ in range(30):
        await fail_times(one, 1)
        await asyncio.sleep(10)
    assert one.replicas[0].breaker.state is BreakerState.CLOSED
    assert one.replicas[0].cooldowns_total == 30


async def test_a_busy_engine_that_names_no_time_counts_as_failing() -> None:
    one = dispatcher(FakeEngine(failing(busy)))
    await fail_times(one, 5)
    assert one.replicas[0].breaker.state is BreakerState.OPEN


async def test_while_one_replica_cools_the_others_answer() -> None:
    engines = FakeEngine(failing(limited)), FakeEngine()
    one = dispatcher(*engines, retries=1)
    for _ in range(20):
        await (await one.begin(CALL)).close()
    assert (len(engines[0].calls), len(engines[1].calls)) == (1, 20)


# Replicas


async def test_calls_with_one_affinity_stay_at_one_replica_while_it_can_take_them() -> None:
    engines = [FakeEngine() for _ in range(4)]
    one = dispatcher(*engines, parallel=2)
    call = Call({}, affinity="conversation")
    home = engine_of(reply := await one.begin(call))
    await reply.close()
    for _ in range(10):
        reply = await one.begin(call)
        assert engine_of(reply) is home
        await reply.close()
    held = [await one.begin(call), await one.begin(call)]
    assert [engine_of(reply) for reply in held] == [home, home]
    assert engine_of(await one.begin(call)) is not home


async def test_all_replicas_are_started_and_stopped() -> None:
    engines = FakeEngine(), FakeEngine()
    one: Engine = dispatcher(*engines)
    await one.start()
    await one.stop()
    assert [(engine.starts, engine.stops) for engine in engines] == [(1, 1), (1, 1)]


async def test_stopping_turns_away_who_waits() -> None:
    one = dispatcher(FakeEngine())
    await one.begin(CALL)
    waiting = asking(one)
    await settle()
    await one.stop()
    with pytest.raises(EngineUnavailable, match="stopped"):
        await waiting
    assert one.waiting == 0


async def test_health_is_that_of_the_best_replica_with_the_restarts_of_all() -> None:
    engines = FakeEngine(state=EngineState.FAILED), FakeEngine(state=EngineState.STARTING)
    one = dispatcher(*engines)
    assert (one.health().state, one.health().restarts) == (EngineState.STARTING, 2)
    engines[0].state = EngineState.READY
    assert one.health().state is EngineState.READY


async def test_a_row_says_how_its_replicas_are_used() -> None:
    model = Model(
        name="m",
        engine="openai",
        tier=0,
        context_tokens=1,
        base_url="http://a/v1",
        replicas=("http://b/v1",),
        parallel=1,
        queue=0,
        retries=0,
    )
    engines = [FakeEngine(failing(down)), FakeEngine(failing(down))]
    one = Dispatcher.of(model, engines, chance=Random(0))
    assert [(replica.name, replica.engine) for replica in one.replicas] == [
        ("http://a/v1", engines[0]),
        ("http://b/v1", engines[1]),
    ]
    await fail_times(one, 1)
    assert sum(len(engine.calls) for engine in engines) == 1
    for engine in engines:
        engine.play = at_once
    held = [await one.begin(CALL) for _ in engines]
    with pytest.raises(EngineBusy):
        await one.begin(CALL)
    for reply in held:
        await reply.close()


# Calls that may as well be left undone


async def test_a_call_aside_takes_no_place_that_anybody_might_want() -> None:
    """The only place when nothing is being answered; of several never the last."""
    engine = FakeEngine()
    one, many = dispatcher(engine), dispatcher(FakeEngine(), FakeEngine(), parallel=2)
    first = await one.begin_aside(CALL)
    assert not one.has_spare()
    with pytest.raises(EngineBusy):
        await one.begin_aside(CALL)
    assert len(engine.calls) == 1
    await first.close()
    assert one.has_spare()
    held = [await many.begin(CALL) for _ in range(3)]
    assert not many.has_spare()
    await held[0].close()
    await (await many.begin_aside(CALL)).close()


async def test_a_call_aside_is_asked_once() -> None:
    engine = FakeEngine(failing(down))
    one = dispatcher(engine, FakeEngine(failing(down)), retries=3)
    with pytest.raises(EngineUnavailable):
        await one.begin_aside(CALL)
    assert (one.retries_total, one.in_flight) == (0, 0)


async def test_there_is_nothing_to_spare_at_an_engine_that_is_not_ready() -> None:
    assert not dispatcher(FakeEngine(state=EngineState.STARTING)).has_spare()
