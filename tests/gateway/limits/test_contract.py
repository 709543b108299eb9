"""What every store of limits promises: all or nothing, never over a cap, all settles, nothing is held for ever."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.limits import database
from gateway.limits.claim import DRAIN_UNITS, HOLD_SECONDS, NEVER_BEGUN, Claim, Refused, Unit
from tests.gateway.limits.benches import HOUR_MS, Bench, MemoryBench, answers, money, requests, tokens

pytestmark = pytest.mark.anyio

WORKERS = 64
HOLD_MS = HOLD_SECONDS * 1000
UNKNOWN: dict[Unit, int | None] = {Unit.NANO_USD: None}


@pytest.mark.parametrize("claim_of", [money, tokens], ids=["money", "tokens"])
async def test_exactly_at_the_cap_is_allowed_and_one_over_is_not(
    bench: Bench, claim_of: Callable[[int, int], Claim]
) -> None:
    cap = 1_000_000_000_001
    if claim_of is tokens:
        cap = 3
    await bench.store.reserve([claim_of(cap - 1, cap)])
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([claim_of(2, cap)])
    assert refused.value.remaining == 1
    assert (await bench.store.reserve([claim_of(1, cap)])).left == (0,)
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([claim_of(1, cap)])
    assert refused.value.remaining == 0


async def test_a_cap_of_nothing_allows_nothing_but_what_is_free(bench: Bench) -> None:
    await bench.store.reserve([money(0, 0)])
    with pytest.raises(Refused):
        await bench.store.reserve([money(1, 0)])


async def test_a_claim_that_does_not_fit_takes_nothing_of_the_others(bench: Bench) -> None:
    await bench.store.reserve([answers(1)])
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([money(5, 10), requests(10), answers(1)])
    assert refused.value.claim.unit is Unit.ANSWERS
    assert refused.value.retry_after_seconds is not None
    assert await bench.used(money(5, 10)) == await bench.used(requests(10)) == 0
    assert await bench.open() == 1


async def test_what_was_not_used_is_given_back_and_what_was_counts(bench: Bench) -> None:
    claims = [money(100, 100), tokens(50, 100), requests(10), answers(1)]
    first = await bench.store.reserve(claims)
    assert first.left == (0, 50, 9, 0)
    await bench.replica.settle(first, {Unit.NANO_USD: 30, Unit.TOKENS: 20})
    second = await bench.replica.reserve([money(70, 100), tokens(80, 100), requests(10), answers(1)])
    assert second.left == (0, 0, 8, 0)
    assert await bench.open() == 1


async def test_settling_twice_counts_once(bench: Bench) -> None:
    one, other = [await bench.store.reserve([money(40, 100)]) for _ in range(2)]
    for store in (bench.store, bench.replica, bench.store):
        await store.settle(one, {Unit.NANO_USD: 10})
    assert await bench.used(money(40, 100)) == 50
    await bench.store.settle(other, {Unit.NANO_USD: 0})
    assert await bench.used(money(40, 100)) == 10


@pytest.mark.parametrize("actual", [{}, UNKNOWN], ids=["not named", "unknown"])
async def test_what_is_not_known_counts_as_the_worst_case(bench: Bench, actual: dict[Unit, int | None]) -> None:
    held = await bench.store.reserve([money(40, 100), answers(1)])
    await bench.store.settle(held, actual)
    assert await bench.used(money(40, 100)) == 40
    assert await bench.used(answers(1)) == 0


async def test_a_request_that_took_more_than_was_held_counts_whole(bench: Bench) -> None:
    held = await bench.store.reserve([money(40, 100), tokens(10, 10)])
    await bench.store.settle(held, {Unit.NANO_USD: 130, Unit.TOKENS: 30})
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([money(1, 100)])
    assert refused.value.remaining == 0
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([tokens(1, 10)])
    assert refused.value.retry_after_seconds == pytest.approx(126, abs=30), "the debt drains first: 21 of 10 a minute"


async def test_a_bucket_fills_by_its_cap_a_minute_and_no_further(bench: Bench) -> None:
    await bench.store.reserve([requests(2, 2)])
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([requests(2)])
    assert refused.value.retry_after_seconds == pytest.approx(30, abs=15)
    await bench.advance(30_000)
    assert (await bench.store.reserve([requests(2)])).left == (0,)
    await bench.advance(100 * HOUR_MS // 1000)
    assert (await bench.store.reserve([requests(2)])).left == (1,)


async def test_a_claim_larger_than_its_limit_is_told_that_it_never_fits(bench: Bench) -> None:
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([tokens(11, 10)])
    assert refused.value.retry_after_seconds is None


async def test_a_window_says_when_it_ends(bench: Bench) -> None:
    await bench.store.reserve([money(1, 2)])
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([money(2, 2, resets_seconds=77.5)])
    assert refused.value.retry_after_seconds == 77.5


async def test_what_a_crashed_process_held_counts_until_it_expires_and_then_no_more(bench: Bench) -> None:
    await bench.store.reserve([money(100, 100), answers(1)])
    await bench.advance(HOLD_MS - 60_000)
    with pytest.raises(Refused):
        await bench.replica.reserve([money(1, 100)])
    await bench.advance(60_000)
    assert (await bench.replica.reserve([money(100, 100), answers(1)])).left == (0, 0)
    assert await bench.open() == 1


async def test_a_settlement_after_the_hold_expired_counts_once_all_the_same(bench: Bench) -> None:
    slow = await bench.store.reserve([money(60, 100)])
    await bench.advance(HOLD_MS)
    await bench.store.settle(await bench.store.reserve([money(10, 100)]), {Unit.NANO_USD: 5})
    for _ in range(2):
        await bench.store.settle(slow, {Unit.NANO_USD: 50})
    assert await bench.used(money(1, 100)) == 55


async def test_a_hold_that_nobody_ever_settles_leaves_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SWEEP_SECONDS", 0)
    await bench.store.reserve([money(60, 100), requests(5), answers(5)])
    for _ in range(3):
        await bench.advance(HOLD_MS)
        await bench.store.settle(await bench.store.reserve([answers(5)]), {})
    assert await bench.used(money(1, 100)) == await bench.used(answers(5)) == 0
    assert await bench.open() == 0


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS], ids=["an hour ahead", "an hour back"])
async def test_a_clock_that_jumps_an_hour_neither_frees_what_is_held_nor_stops_a_bucket(
    bench: Bench, jump_ms: int
) -> None:
    """The memory store sees no such jump: its clock is monotonic. Ahead, a bucket is full at once, and no fuller; back,
    it goes on from the next request.
    """
    held = await bench.store.reserve([money(60, 100), requests(2, 2)])
    if not isinstance(bench, MemoryBench):
        await bench.advance(jump_ms)
    with suppress(Refused):
        await bench.store.reserve([requests(2, 2)])
    with pytest.raises(Refused):
        await bench.store.reserve([money(50, 100)])
    for _ in range(2):
        await bench.advance(60_000)
        await bench.store.reserve([requests(2, 2)])
        with pytest.raises(Refused):
            await bench.store.reserve([requests(2, 1)])
    await bench.store.settle(held, {Unit.NANO_USD: 20})
    assert await bench.used(money(1, 100)) == 20


async def test_seeds_raise_a_window_to_what_was_spent_and_never_lower_it(bench: Bench) -> None:
    claim = money(10, 100)
    await bench.store.reserve([claim])
    await bench.replica.seed({claim.key: 5})
    assert await bench.used(claim) == 10
    await bench.replica.seed({claim.key: 95, "usd:team:t:2026-11": 7})
    with pytest.raises(Refused) as refused:
        await bench.store.reserve([money(6, 100)])
    assert refused.value.remaining == 5
    assert await bench.used(money(1, 1, "usd:team:t:2026-11")) == 7


# Many at once.


async def test_sixty_four_at_once_take_a_cap_to_the_last_nano_dollar_and_not_one_more(bench: Bench) -> None:
    """No false refusal: every one of them fits, exactly."""
    stores = [bench.store, bench.replica]
    held = await asyncio.gather(*(stores[n % 2].reserve([money(7, 7 * WORKERS)]) for n in range(WORKERS)))
    assert min(reservation.left for reservation in held) == (0,)
    with pytest.raises(Refused):
        await bench.store.reserve([money(1, 7 * WORKERS)])
    await asyncio.gather(*(bench.store.settle(reservation, {Unit.NANO_USD: 6}) for reservation in held))
    assert await bench.used(money(1, 1)) == 6 * WORKERS
    assert await bench.open() == 0


@pytest.mark.parametrize("seed", range(3))
async def test_sixty_four_workers_that_fail_and_are_cancelled_never_overspend_and_settle_to_what_they_used(
    bench: Bench, seed: int
) -> None:
    dice = random.Random(seed)
    cap = 1000
    settled: list[int] = []
    over: list[int] = []
    false_refusals: list[bool] = []

    async def work(store_number: int, amount: int, used: int, fails: bool) -> None:
        store = (bench.store, bench.replica)[store_number]
        claims = [money(amount, cap), money(amount, 10 * cap, "usd:team:t:2026-11"), answers(16), requests(10**6)]
        try:
            reservation = await store.reserve(claims)
        except Refused as refused:
            false_refusals.append(refused.remaining >= refused.claim.amount)
            return
        over.extend(filter(lambda now: now > cap, [await bench.used(claims[0])]))
        try:
            await asyncio.sleep(0)
            if fails:
                raise ConnectionError
        except ConnectionError:
            used = 0
        except asyncio.CancelledError:
            settled.append(used)
            await store.settle(reservation, {Unit.NANO_USD: used})
            raise
        settled.append(used)
        await store.settle(reservation, {Unit.NANO_USD: used})

    async def in_turn() -> None:
        for _ in range(4):
            amount = dice.randrange(1, 60)
            task = asyncio.create_task(work(dice.randrange(2), amount, dice.randrange(amount + 1), dice.random() < 0.2))
            if dice.random() < 0.3:
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()

    await asyncio.gather(*(in_turn() for _ in range(WORKERS)))
    for store in (bench.store, bench.replica):
        steps = getattr(store, "_steps", None)
        if steps is not None:
            await steps.close()
    assert over == []
    assert any(false_refusals) is False
    assert false_refusals, "the cap was met"
    assert await bench.used(money(1, 1)) == await bench.used(money(1, 1, "usd:team:t:2026-11")) == sum(settled) <= cap
    assert await bench.used(answers(1)) == 0
    assert await bench.open() == 0
    if sum(settled) < cap:
        assert (await bench.store.reserve([money(cap - sum(settled), cap)])).left == (0,), "no room is lost"


async def test_a_reservation_that_nobody_waits_for_any_more_is_given_back(bench: Bench) -> None:
    """Cancelled at each step of the way in."""
    for steps in range(12):
        task = asyncio.create_task(bench.store.reserve([money(10, 10), requests(100)]))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            await asyncio.wait({task})
        running = getattr(bench.store, "_steps", None)
        if running is not None:
            await running.close()
        if not task.cancelled():
            await bench.store.settle(task.result(), NEVER_BEGUN)
        assert await bench.open() == 0
        assert await bench.used(money(1, 1)) == 0
        assert await bench.used(requests(100)) < DRAIN_UNITS
