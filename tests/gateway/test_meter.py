"""Tabs, charges and metrics: what one request costs, counted once, under bounded labels."""

import asyncio
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from gateway import meter as meter_module
from gateway.keys import Caller
from gateway.ledger.charge import Charge, Outcome
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from gateway.ledger.tables import charges
from gateway.meter import NO_MODEL, Meter, Metrics, Tab
from models.catalog import Model, Price, Speed
from models.engine import EngineRefused, Reply, Usage
from models.scripted import Say
from router.canary import Stage
from router.decision import Basis, Decision
from tests.gateway.wire import CHAT, OpenRig, chat

pytestmark = pytest.mark.anyio


def model(name: str = "small", price: Price | None = None, speed: Speed | None = None) -> Model:
    return Model(name=name, engine="scripted", tier=0, context_tokens=100, price=price, speed=speed)


BY_TOKEN = Price(input_usd=Decimal(1), output_usd=Decimal(4), cached_input_usd=Decimal("0.25"))
BY_HOUR = Price(hour_usd=Decimal("0.36"))  # 0.0001 dollars a second
SAFE = model("large", Price(input_usd=Decimal(10), output_usd=Decimal(10)))
USAGE = Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=40)


class Kept(Ledger):
    """Keeps charges in lists."""

    def __init__(self) -> None:
        self.intended: list[Charge] = []
        self.charges: list[Charge] = []

    def intend(self, charge: Charge) -> None:
        self.intended.append(charge)

    def record(self, charge: Charge) -> None:
        self.charges.append(charge)


@pytest.fixture
async def meter() -> Meter:
    return Meter(Kept(), Metrics(CollectorRegistry()))


def charged(meter: Meter) -> Charge:
    assert isinstance(meter.ledger, Kept)
    [charge] = meter.ledger.charges
    return charge


def answered(tab: Tab, by: Model, usage: Usage | None, engine_seconds: float | None = None) -> Tab:
    tab.calling(by)
    tab.answering(Counting(usage, engine_seconds))
    return tab


class Counting(Reply):
    """A reply that has counted so much by now."""

    def __init__(self, usage: Usage | None, engine_seconds: float | None = None) -> None:
        super().__init__(b"{}")
        self.counted, self.seconds = usage, engine_seconds

    @property
    def usage(self) -> Usage | None:
        return self.counted

    @property
    def engine_seconds(self) -> float | None:
        return self.seconds

    async def more(self) -> bytes:
        return b""

    async def _stop(self) -> None:
        pass


async def test_only_the_first_close_counts(meter: Meter) -> None:
    tab = answered(meter.open("req_1", SAFE), SAFE, USAGE)
    tab.close(Outcome.OK, 200)
    tab.close(Outcome.CUT, 500, "x")
    tab.close(Outcome.GONE, None)
    assert (charged(meter).outcome, charged(meter).status, charged(meter).code) == (Outcome.OK, 200, None)
    assert meter.metrics.in_flight._value.get() == 0


async def test_a_price_by_tokens_counts_cached_ones_at_their_own_price(meter: Meter) -> None:
    answered(meter.open("req_1", SAFE), model(price=BY_TOKEN), USAGE).close(Outcome.OK, 200)
    assert charged(meter).cost_usd == (60 * 1 + 40 * Decimal("0.25") + 10 * 4) / Decimal(10**6)
    assert charged(meter).safe_cost_usd == Decimal(110 * 10) / 10**6


async def test_a_price_by_the_hour_counts_the_engines_own_seconds(meter: Meter) -> None:
    answered(meter.open("req_1", SAFE), model(price=BY_HOUR), USAGE, engine_seconds=2.5).close(Outcome.OK, 200)
    assert charged(meter).cost_usd == Decimal("0.00025")


async def test_without_the_engines_own_seconds_those_since_the_call_count(meter: Meter) -> None:
    tab = meter.open("req_1", SAFE)
    tab.calling(model(price=BY_HOUR))
    tab.close(Outcome.GONE, None)
    charge = charged(meter)
    assert charge.engine_seconds is not None
    assert 0 < charge.engine_seconds < 1
    assert charge.cost_usd is not None
    assert charge.cost_usd > 0
    assert charge.prompt_tokens is None


@pytest.mark.parametrize(
    ("by", "usage", "counter"),
    [
        pytest.param(model(), USAGE, "unpriced_requests_total", id="no price"),
        pytest.param(model(price=BY_TOKEN), None, "uncounted_requests_total", id="no tokens"),
        pytest.param(model(price=BY_TOKEN), None, "unpriced_requests_total", id="no tokens, so no cost"),
    ],
)
async def test_what_is_not_known_is_counted_as_such_and_never_as_zero(
    meter: Meter, by: Model, usage: Usage | None, counter: str
) -> None:
    registry = CollectorRegistry()
    meter.metrics = Metrics(registry)
    answered(meter.open("req_1", SAFE), by, usage).close(Outcome.OK, 200)
    assert charged(meter).cost_usd is None
    assert registry.get_sample_value(f"pointsman_{counter}", {"model": "small"}) == 1


async def test_a_refused_request_costs_nothing_at_any_engine(meter: Meter) -> None:
    tab = meter.open("req_1", SAFE)
    tab.calling(model(price=BY_HOUR))
    tab.close(Outcome.REFUSED, 400, "x")
    assert (charged(meter).cost_usd, charged(meter).prompt_tokens) == (Decimal(0), 0)


async def test_a_model_passed_over_leaves_nothing_on_the_tab(meter: Meter) -> None:
    tab = answered(meter.open("req_1", SAFE), model("first", price=BY_TOKEN), USAGE, engine_seconds=9.0)
    tab.calling(SAFE)
    tab.close(Outcome.FAILED, 503)
    charge = charged(meter)
    assert (charge.model, charge.attempts, charge.prompt_tokens) == ("large", 2, None)
    assert charge.engine_seconds is not None
    assert charge.engine_seconds < 1


async def test_what_is_charged_is_what_was_counted_when_the_tab_is_closed(meter: Meter) -> None:
    tab = meter.open("req_1", SAFE)
    tab.calling(SAFE)
    reply = Counting(Usage(5, 1))
    tab.answering(reply)
    reply.counted = Usage(5, 2)
    tab.close(Outcome.CUT, 200)
    assert (charged(meter).prompt_tokens, charged(meter).completion_tokens) == (5, 2)


async def test_the_safe_tier_is_not_compared_with_itself(meter: Meter) -> None:
    """Its estimate has no warm cache; the difference would look like a saving, or a loss."""
    answered(meter.open("req_1", SAFE), SAFE, USAGE).close(Outcome.OK, 200)
    assert charged(meter).cost_usd == charged(meter).safe_cost_usd


async def test_a_long_reason_is_cut_for_the_ledger(meter: Meter) -> None:
    tab = meter.open("req_1", SAFE)
    tab.decided(Decision(("small",), Basis.SAFE, "x" * 5000, None), 0.001)
    tab.close(Outcome.OK, 200)
    assert len(charged(meter).reason or "") == meter_module.REASON_LIMIT_CHARACTERS


async def test_an_engines_own_code_is_cut_for_the_ledger(meter: Meter) -> None:
    meter.open("req_1", SAFE).close(Outcome.REFUSED, 400, "x" * 5000)
    assert charged(meter).code == "x" * meter_module.CODE_LIMIT_CHARACTERS
    assert str(charges.c.code.type) == f"VARCHAR({meter_module.CODE_LIMIT_CHARACTERS})"


async def test_before_an_engine_is_called_the_ledger_knows_what_to_say_if_this_process_dies(meter: Meter) -> None:
    tab = meter.open("req_1", SAFE)
    tab.asked("auto", streamed=True)
    tab.held_by(Caller("key_1", "test"), "chat")
    tab.decided(Decision(("small", "large"), Basis.SAFE, "why", None), 0.001)
    answered(tab, model("small", price=BY_HOUR), USAGE, engine_seconds=9.0)
    tab.calling(SAFE)
    assert isinstance(meter.ledger, Kept)
    first, second = meter.ledger.intended
    assert {first.outcome, second.outcome} == {Outcome.LOST}
    assert (first.model, first.attempts, first.caller, first.asked) == ("small", 1, "key_1", "auto")
    assert (second.model, second.attempts, second.reason, second.streamed) == ("large", 2, "why", True)
    unknown = (second.prompt_tokens, second.completion_tokens, second.cost_usd, second.engine_seconds, second.status)
    assert unknown == (None,) * 5
    assert meter.ledger.charges == []
    assert first.cost_usd is None  # also by the hour: no time has passed, but some will have


async def test_closing_the_meter_waits_for_open_tabs_and_closes_those_that_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter_module, "CLOSE_PATIENCE_SECONDS", 0.05)
    database = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    meter = Meter(Ledger(database, tmp_path / "journal"), Metrics(CollectorRegistry()))
    soon, never = meter.open("req_soon", SAFE), meter.open("req_never", SAFE)
    asyncio.get_running_loop().call_later(0.01, soon.close, Outcome.CUT, 200)
    await meter.close()
    await asyncio.to_thread(meter.ledger.close)
    with database.connect() as connection:
        found = dict(connection.execute(select(charges.c.id, charges.c.outcome)).all())
    database.dispose()
    assert found == {"req_soon": "cut", "req_never": "failed"}
    assert never.charge is not None
    await meter.close()  # with nothing open, at once


async def test_labels_come_from_tables_and_never_from_clients(rig: OpenRig) -> None:
    async with rig(large=lambda call: [EngineRefused("x", status=400, code="code-of-the-engine"), Say("x")]) as r:
        for asked in ("auto", "small", "large", "gpt-4o-mini", "canary-model", "", "none"):
            await r.http.post(CHAT, json=chat(asked))
        await r.http.post(CHAT, content=b"{")
        await r.http.get("/v1/models/canary-model")
        await r.http.get("/canary-path")
        await r.charges(8)
        allowed = {
            "model": {"small", "large", NO_MODEL},
            "outcome": {outcome.value for outcome in Outcome},
            "basis": {basis.value for basis in Basis},
            "stage": {stage.value for stage in Stage},
            "type": {"input", "output", "cached"},
            "version": {version("pointsman")},
        }
        samples = [sample for family in r.runtime.registry.collect() for sample in family.samples]
        assert {name for sample in samples for name in sample.labels} <= {*allowed, "le"}
        for sample in samples:
            for name, value in sample.labels.items():
                assert name == "le" or value in allowed[name], sample
