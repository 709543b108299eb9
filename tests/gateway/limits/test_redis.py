"""A Redis that is dead, slow or has lost its memory: rates go on locally, money is refused, and both come back."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from time import perf_counter

import pytest
from structlog.testing import capture_logs

from gateway.limits import redis
from gateway.limits.claim import Refused, Unit, Unreachable
from gateway.limits.redis import DEADLINE_SECONDS, PAUSE_SECONDS, RedisStore, connect
from tests.gateway.limits.benches import RedisBench, answers, money, requests
from tests.services import redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.services]

MONEY = money(40, 200)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Outage:
    """A Redis of one test's own, which can be stopped like a process that hangs."""

    bench: RedisBench
    store: RedisStore
    clock: Clock
    process: subprocess.Popen[bytes]

    def hang(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def recover(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)
        self.clock.now += PAUSE_SECONDS


@pytest.fixture
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with redis_server() as started:
        yield started


@pytest.fixture
async def outage(
    server: tuple[str, subprocess.Popen[bytes]], anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Outage]:
    url, process = server
    clock = Clock()
    monkeypatch.setattr(redis, "DEADLINE_SECONDS", 0.5)  # a busy machine is not taken for a dead Redis
    bench = RedisBench(url)
    store = RedisStore(connect(url), bench._spent, clock=clock)
    await bench.store.seed({})
    yield Outage(bench, store, clock, process)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGCONT)
    await store.close()
    await bench.close()


def test_a_request_waits_for_redis_no_longer_than_fifty_milliseconds() -> None:
    assert DEADLINE_SECONDS <= 0.05


@pytest.mark.parametrize("dies", [False, True], ids=["hangs", "dies"])
async def test_without_redis_rates_are_kept_locally_and_money_is_refused(outage: Outage, dies: bool) -> None:
    await outage.store.reserve([requests(3)])
    if dies:
        outage.process.kill()
        outage.process.wait()
    else:
        outage.hang()
    with capture_logs() as logs:
        with pytest.raises(Unreachable):
            await outage.store.reserve([MONEY, requests(3)])
        assert outage.store.degraded
        for left in (2, 1, 0):
            made = await outage.store.reserve([requests(3)])
            assert (made.degraded, made.left) == (True, (left,))
        with pytest.raises(Refused):
            await outage.store.reserve([requests(3)])
        with pytest.raises(Unreachable):
            await outage.store.reserve([MONEY])
    assert [line["log_level"] for line in logs] == ["error"], "one line, not one a request"


async def test_while_redis_is_let_alone_nobody_waits_for_it(outage: Outage, monkeypatch: pytest.MonkeyPatch) -> None:
    outage.hang()
    await outage.store.reserve([requests(1000)])
    monkeypatch.setattr(outage.store._batches, "_deadline_seconds", 30.0)
    start = perf_counter()
    for _ in range(100):
        await outage.store.settle(await outage.store.reserve([requests(1000)]), {})
    assert perf_counter() - start < 10, "not one of them waited"


async def test_what_was_held_and_settled_around_an_outage_is_counted_after_it(outage: Outage) -> None:
    before = await outage.store.reserve([MONEY, answers(5)])
    outage.hang()
    with pytest.raises(Unreachable):
        await outage.store.reserve([MONEY, answers(5)])  # Redis reads this when it wakes
    await outage.store.settle(before, {Unit.NANO_USD: 7})
    outage.recover()
    after = await outage.store.reserve([MONEY, answers(5)])
    await outage.store._steps.close()
    assert not outage.store.degraded
    await outage.store.settle(after, {Unit.NANO_USD: 2})
    assert await outage.bench.used(MONEY) == 9
    assert await outage.bench.used(answers(5)) == await outage.bench.open() == 0


async def test_what_is_settled_of_a_local_reservation_stays_local(outage: Outage) -> None:
    outage.hang()
    made = await outage.store.reserve([answers(1)])
    outage.recover()
    with pytest.raises(Refused):
        await outage.store._local.reserve([answers(1)])
    await outage.store.settle(made, {})
    assert (await outage.store._local.reserve([answers(1)])).left == (0,)
    assert await outage.bench.used(answers(1)) == 0


async def test_counts_of_money_that_redis_lost_come_back_from_the_ledger(outage: Outage) -> None:
    await outage.store.settle(await outage.store.reserve([MONEY]), {Unit.NANO_USD: 40})
    outage.bench.spent = {MONEY.key: 40}
    await outage.bench.client.flushdb()
    assert (await outage.store.reserve([requests(3)])).degraded is False, "rates need no memory"
    with pytest.raises(Unreachable):
        await outage.store.reserve([MONEY])
    await outage.store._steps.close()
    assert (await outage.store.reserve([money(160, 200)])).left == (0,)
    with pytest.raises(Refused):
        await outage.store.reserve([money(1, 200)])


async def test_the_last_cent_of_a_million_dollars_is_counted_exactly(outage: Outage) -> None:
    cap = 10**15
    await outage.store.reserve([money(cap - 1, cap)])
    assert (await outage.store.reserve([money(1, cap)])).left == (0,)
    with pytest.raises(Refused):
        await outage.store.reserve([money(1, cap)])


async def test_a_hundred_at_once_need_one_connection(outage: Outage) -> None:
    before = len(await outage.bench.client.client_list())
    made = await asyncio.gather(*(outage.store.reserve([requests(1000)]) for _ in range(100)))
    assert len({reservation.left for reservation in made}) == 100
    assert len(await outage.bench.client.client_list()) <= before + 1


async def test_a_redis_that_was_started_anew_is_given_the_scripts_again(outage: Outage) -> None:
    await outage.store.reserve([requests(1000)])
    await outage.bench.client.script_flush()
    made = await asyncio.gather(*(outage.store.reserve([requests(1000)]) for _ in range(3)))
    assert sorted(reservation.left[0] for reservation in made) == [996, 997, 998]
    assert not outage.store.degraded
