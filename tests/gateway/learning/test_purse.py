"""The day's money for exploring is never overspent, whoever explores at the same time, and is there again tomorrow."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.learning.purse import SECONDS_LIMIT, Allowance, Purse, Spent, worst_nano_usd
from gateway.learning.section import LearningSection
from gateway.ledger.database import open_database
from gateway.limits.claim import LimitStore, Unit
from gateway.limits.database import DatabaseStore
from gateway.limits.memory import MemoryStore
from gateway.settings import load_settings
from models.catalog import Model, Price, Speed
from models.engine import Usage

pytestmark = pytest.mark.anyio

CAP = 1_000
HAVE = Allowance(CAP, everywhere=True)


def row(price: Price | None = None) -> Model:
    speed = Speed(prompt_tokens_per_second=100, completion_tokens_per_second=10)
    return Model(name="m", engine="scripted", tier=0, context_tokens=1000, price=price, speed=speed)


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Sequence[LimitStore]]:
    store = MemoryStore()
    yield [store] * 3  # as its processes ask the one of the supervisor


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[Sequence[LimitStore]]:
    url = f"sqlite:///{folder / 'l.db'}"
    engines = [open_database(url) for _ in range(3)]
    stores = [DatabaseStore(engine) for engine in engines]
    yield stores
    for store, engine in zip(stores, engines, strict=True):
        await store.close()
        engine.dispose()


SHADOWS = st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), max_size=30)  # the worst, and which part it came to


@pytest.mark.parametrize("opened", [memory, database])
def test_no_crowd_overspends_the_day(opened: Callable[..., object]) -> None:
    @settings(max_examples=60 if opened is memory else 8, deadline=None)
    @given(SHADOWS)
    def holds(shadows: list[tuple[int, float]]) -> None:
        with TemporaryDirectory() as folder:
            asyncio.run(crowd(opened, Path(folder), shadows))

    holds()


async def crowd(opened: Callable[..., object], folder: Path, shadows: list[tuple[int, float]]) -> None:
    async with opened(folder) as stores:  # type: ignore[attr-defined]
        purses = [Purse(store) for store in stores]
        held = spent = 0

        async def shadow(purse: Purse, worst: int, part: float) -> None:
            nonlocal held, spent
            try:
                reservation = await purse.take(worst, HAVE)
            except Spent:
                return
            held += worst
            assert held + spent <= CAP
            await asyncio.sleep(0)
            actual = int(part * worst)
            held, spent = held - worst, spent + actual
            await purse.settle(reservation, {Unit.NANO_USD: actual})

        await asyncio.gather(*(shadow(purses[n % 3], *one) for n, one in enumerate(shadows)))
        assert spent <= CAP


async def test_tomorrow_there_is_money_again() -> None:
    now = [datetime(2026, 11, 25, 23, 59, tzinfo=UTC)]
    purse = Purse(MemoryStore(), clock=lambda: now[0])
    await purse.take(CAP, HAVE)
    with pytest.raises(Spent):
        await purse.take(1, HAVE)
    now[0] += timedelta(minutes=2)
    await purse.take(CAP, HAVE)


async def test_after_one_did_not_fit_smaller_ones_do_not_slip_through() -> None:
    """Else long requests of a template would be missing in its evidence at the end of each day."""
    purse = Purse(MemoryStore())
    await purse.take(CAP - 10, HAVE)
    for worst in (11, 1):
        with pytest.raises(Spent) as refused:
            await purse.take(worst, HAVE)
        assert not refused.value.never
    more = Allowance(2 * CAP, everywhere=True)
    await purse.take(1, more)  # the operator has given more


async def test_what_no_day_has_money_for_ends_nothing() -> None:
    purse = Purse(MemoryStore())
    with pytest.raises(Spent) as refused:
        await purse.take(CAP + 1, HAVE)
    assert refused.value.never
    await purse.take(CAP, HAVE)


async def test_what_is_not_known_to_have_cost_less_counts_as_the_worst() -> None:
    purse = Purse(MemoryStore())
    await purse.settle(await purse.take(CAP, HAVE), {Unit.NANO_USD: None})
    with pytest.raises(Spent):
        await purse.take(1, HAVE)


def test_a_model_that_is_paid_by_the_hour_costs_at_most_the_time_it_gets() -> None:
    model = row(price=Price(hour_usd=Decimal("0.10")))
    worst = worst_nano_usd({"messages": [], "max_tokens": 100_000}, 100, model)
    cost = model.cost_usd(Usage(0, 0), SECONDS_LIMIT + 1)
    assert cost is not None
    assert cost * 10**9 < worst < 5_000_000


HOURLY = Price(hour_usd=Decimal("0.10"))
FREE = Price(hour_usd=Decimal(0))
TOKENS = Price(input_usd=Decimal(1), output_usd=Decimal(1))


@pytest.mark.parametrize(
    ("usd", "machine_hour_usd", "engine", "price", "covered"),
    [
        (None, "0.10", "llamacpp", HOURLY, True),
        (None, "0", "llamacpp", FREE, True),
        (None, "0.10", "openai", TOKENS, False),
        (None, "0.10", "openai", HOURLY, False),
        ("0", "0.10", "llamacpp", HOURLY, False),
        ("0", "0", "llamacpp", FREE, False),
        ("0.5", "0.10", "openai", TOKENS, True),
        ("0.5", "0.10", "llamacpp", HOURLY, True),
        ("0.5", "0.10", "openai", None, False),
    ],
)
def test_nobody_is_sent_a_bill_that_he_did_not_ask_for(
    usd: str | None, machine_hour_usd: str, engine: str, price: Price | None, covered: bool
) -> None:
    learning = LearningSection(explore_usd_per_day=None if usd is None else Decimal(usd))
    allowance = Allowance.of(load_settings(learning=learning, machine_hour_usd=machine_hour_usd))
    model = Model.model_construct(**{**row().__dict__, "engine": engine, "price": price})
    assert allowance.covers(model) == covered
