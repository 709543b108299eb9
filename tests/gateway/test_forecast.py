"""What a request is expected to take of each model is learned from what others took; and it decides, through the front
door.
"""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import forecast as forecast_module
from gateway.forecast import TOKENS_PER_BYTE, USUAL_TOKENS, Forecaster
from gateway.ledger.charge import Charge, Outcome
from gateway.schema import Asked, parse_chat
from models.catalog import Price, catalog_of
from models.engine import Call
from models.scripted import Say, Script, Wait
from router.bar import Bar, Tally
from router.decision import Basis, Question
from router.expected import Expected
from router.strategies.evidence_first import EvidenceFirst
from tests.gateway.test_decisions import pointsman
from tests.gateway.test_wishes import ASKED, HOLDS_A_TENTH, knowing
from tests.gateway.wire import CHAT, OpenRig, until
from tests.router.world import LARGE, SMALL, THREE, knowledge

pytestmark = pytest.mark.anyio

CATALOG = catalog_of(THREE, {})
OF_ONE_PLACE = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 999, parallel: 1, price: {input_usd: 0.1, output_usd: 1}}
  - {name: large, engine: scripted, tier: 1, context_tokens: 2000, price: {input_usd: 1, output_usd: 2}}
"""


def asked(system: str = "A task.", **fields: Any) -> Asked:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "A question."}]
    return parse_chat(orjson.dumps({"model": "auto", "messages": messages, **fields}), CATALOG)


def charge(prompt: int | None, completion: int | None, cached: int = 0, outcome: Outcome = Outcome.OK) -> Charge:
    return Charge(
        id="req",
        at=datetime.now(UTC),
        outcome=outcome,
        status=200,
        code=None,
        streamed=False,
        attempts=1,
        total_seconds=1.0,
        model=SMALL.name,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
    )


class Engine:
    """So many turns before a place is free."""

    def __init__(self, turns: float, call_seconds: float | None) -> None:
        self.turns_before = turns
        self.call_seconds = call_seconds


def test_before_anything_was_seen_the_size_and_the_limit_of_the_request_say_most() -> None:
    one = asked()
    expected = Forecaster().of(one, "t")(SMALL)
    assert expected == Expected(int(one.body_bytes * TOKENS_PER_BYTE), USUAL_TOKENS)
    assert Forecaster().of(asked(max_tokens=10), "t")(SMALL).completion_tokens == 10
    assert Forecaster().of(asked(max_completion_tokens=10, n=3), "t")(SMALL).completion_tokens == 30


def test_each_models_tokens_and_each_templates_answers_are_learned_from_charges() -> None:
    one, known = asked(), Forecaster()
    for _ in range(5):
        known.asking(one, "t", SMALL)(charge(one.body_bytes // 2, 40))
    assert known.of(one, "t")(SMALL)[:2] == (one.body_bytes // 2, 40)
    assert known.of(one, "t")(LARGE)[:2] == (int(one.body_bytes * TOKENS_PER_BYTE), 40)  # answers as the others do
    assert known.of(one, "u")(SMALL)[:2] == (one.body_bytes // 2, USUAL_TOKENS)
    assert known.of(asked(max_tokens=7), "t")(SMALL).completion_tokens == 7


@pytest.mark.parametrize(
    "told",
    [None, charge(None, None), charge(0, 5), charge(10, 1, outcome=Outcome.GONE), charge(10, 1, outcome=Outcome.CUT)],
)
def test_nothing_is_learned_of_answers_that_did_not_end_or_were_not_counted(told: Charge | None) -> None:
    one, known = asked(), Forecaster()
    before = known.of(one, "t")(SMALL)
    known.asking(one, "t", SMALL)(told)
    assert known.of(one, "t")(SMALL)[:2] == before[:2]


def test_an_engine_that_says_it_keeps_nothing_is_believed() -> None:
    """Its prompt cache is counted on until it has said so, and again when it says otherwise."""
    one, known = asked("A long task. " * 100), Forecaster()
    known.asking(one, "t", SMALL)(charge(one.body_bytes // 4, 5))
    warm = known.of(one, "t")(SMALL)
    assert warm.cached_share > 0.9
    for _ in range(200):
        known.asking(one, "t", SMALL)(charge(one.body_bytes // 4, 5, cached=0))
    assert known.of(one, "t")(SMALL).cached_share < 0.05
    for _ in range(400):
        known.asking(one, "t", SMALL)(charge(one.body_bytes // 4, 5, cached=one.body_bytes // 4))
    assert known.of(one, "t")(SMALL).cached_share > 0.9


def test_waiting_takes_as_long_as_the_calls_before_and_costs_what_the_operator_says() -> None:
    one = asked()
    queued = Forecaster().of(one, "t", {"small": Engine(1.5, 4.0)}, Decimal("0.01"))(SMALL)
    assert (queued.wait_seconds, queued.wait_usd) == (6.0, Decimal("0.06"))
    free = Forecaster().of(one, "t", {"small": Engine(0.0, 4.0)}, Decimal("0.01"))(SMALL)
    assert (free.wait_seconds, free.wait_usd) == (0.0, Decimal(0))
    [unseen] = [Forecaster().of(one, "t", {"small": Engine(1.0, None)})(SMALL)]
    assert unseen.wait_seconds == SMALL.expected_seconds(unseen)  # as long as this one would take
    assert unseen.wait_usd == 0


def test_pictures_have_no_beginning_that_is_known_by_its_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    seeing = catalog_of([m.model_copy(update={"abilities": m.abilities | {"images"}}) for m in THREE], {})
    raw = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": [picture]}]})
    one, known = parse_chat(raw, seeing), Forecaster()
    known.asking(one, "t", SMALL)(charge(500, 5))
    assert known.of(one, "t")(SMALL).cached_tokens == 0
    assert known.reading("small").tokens_per_byte.count == 0
    assert known.of(one, "t")(SMALL).completion_tokens == 5


def test_only_the_templates_used_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "TEMPLATES_LIMIT", 3)
    one, known = asked(), Forecaster()
    for number in range(50):
        known.asking(one, f"t{number}", SMALL)(charge(10, 5))
    assert [f"t{n}" for n in range(50) if known.lengths(f"t{n}")] == ["t47", "t48", "t49"]


@given(
    st.integers(1, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1e3),
    st.none() | st.floats(0, 1e3),
    st.integers(1, 8),
)
def test_whatever_engines_count_what_is_expected_makes_sense(
    prompt: int, completion: int, cached: int, turns: float, seconds: float | None, n: int
) -> None:
    one, known = asked(n=n), Forecaster()
    for _ in range(3):
        known.asking(one, "t", SMALL)(charge(prompt, completion, cached))
    for model in THREE:
        expected = known.of(one, "t", {model.name: Engine(turns, seconds)}, Decimal("0.1"))(model)
        assert 0 <= expected.cached_tokens <= expected.prompt_tokens
        assert expected.completion_tokens >= 0
        assert expected.wait_seconds >= 0
        cost_usd = expected.cost_usd(model)
        assert cost_usd is not None
        assert cost_usd >= expected.wait_usd >= 0


def test_a_warm_cache_holds_a_template_at_a_dearer_model_only_while_few_requests_share_it() -> None:
    cached = Price(input_usd=Decimal(1), output_usd=Decimal(1), cached_input_usd=Decimal("0.1"))
    small = SMALL.model_copy(update={"price": cached})
    dearer = Price(input_usd=Decimal(2), output_usd=Decimal(2), cached_input_usd=Decimal("0.2"))
    large = LARGE.model_copy(update={"price": dearer})
    one, known = asked("A long task. " * 1000, max_tokens=1), Forecaster()
    about = knowledge(Bar(0.95, margin=0.1), {("t", small): Tally(100, 100, paired=100)}, models=(small, large))
    known.asking(one, "t", large)(charge(None, None))  # by name
    bases = []
    for _ in range(12):
        decision = EvidenceFirst().decide(Question("t", expect=known.of(one, "t")), about)
        bases.append(decision.basis)
        known.asking(one, "t", small if decision.model == "small" else large)(None)
    assert bases == sorted(bases, key=[Basis.COST, Basis.EVIDENCE].index)
    assert bases[0] is Basis.COST
    assert bases[-1] is Basis.EVIDENCE


def small_waits_for(free: asyncio.Event) -> Any:
    def play(call: Call) -> Script:
        return [Wait(free), Say("late")]

    return play


async def test_a_queue_sends_a_proved_template_to_the_safe_tier_where_waiting_has_a_price(rig: OpenRig) -> None:
    """And the ledger explains and remakes it; without a price it waits, as before."""
    free = asyncio.Event()
    body = {"model": "auto", "messages": ASKED}
    knowing_small = {"knowledge_maker": knowing(HOLDS_A_TENTH), "catalog": OF_ONE_PLACE, "large": lambda c: [Say("x")]}
    async with rig(small=small_waits_for(free), wait_second_usd=Decimal(1), **knowing_small) as r:
        first = asyncio.create_task(r.http.post(CHAT, json=body))
        await until(lambda: len(r.engines["small"].calls) == 1)
        r.runtime.engines["small"]._call_seconds.take(3.0)
        second = await r.http.post(CHAT, json=body)
        free.set()
        third = await first
        assert (third.headers["x-pointsman-model"], third.headers["x-pointsman-basis"]) == ("small", "evidence")
        assert (second.headers["x-pointsman-model"], second.headers["x-pointsman-basis"]) == ("large", "cost")
        assert "is expected to cost" in second.headers["x-pointsman-reason"]
        rows = {row["id"]: orjson.loads(row["decision"]) for row in await r.charges(2)}
        small, large = rows[second.headers["x-request-id"]]["candidates"]
        assert (small["expected"]["wait_seconds"], small["expected"]["wait_usd"]) == (3.0, "3.0")
        assert Decimal(small["expected_usd"]) > Decimal(large["expected_usd"]) > 0
        code, said = await pointsman(r, "route", "explain", second.headers["x-request-id"])
        assert code == 0, said
        assert "made again: the same choice, large" in said
        assert "expected USD" in said
        assert "3.0" in said


async def test_waiting_that_costs_nothing_moves_nobody_but_counts_against_a_latency_limit(rig: OpenRig) -> None:
    free = asyncio.Event()
    body = {"model": "auto", "messages": ASKED}
    async with rig(small=small_waits_for(free), knowledge_maker=knowing(HOLDS_A_TENTH), catalog=OF_ONE_PLACE) as r:
        first = asyncio.create_task(r.http.post(CHAT, json=body))
        await until(lambda: len(r.engines["small"].calls) == 1)
        r.runtime.engines["small"]._call_seconds.take(3.0)
        patient = (await r.http.post("/v1/decision", json=body)).json()
        assert (patient["model"], patient["candidates"][0]["expected"]["wait_seconds"]) == ("small", 3.0)
        hurried = await r.http.post("/v1/decision", json=body, headers={"x-pointsman-max-latency": "1"})
        assert hurried.json()["model"] == "large"
        free.set()
        await first


async def test_the_tokens_that_engines_count_are_those_expected_next_time(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH), small=lambda call: [Say("w ")] * 30) as r:
        body = {"model": "auto", "messages": ASKED}
        for stream in (False, True):
            await r.http.post(CHAT, json={**body, "stream": stream})
        [_, row] = await r.charges(2)
        small, large = (await r.http.post("/v1/decision", json=body)).json()["candidates"]
        assert small["expected"]["completion_tokens"] == large["expected"]["completion_tokens"] == 30
        assert abs(small["expected"]["prompt_tokens"] - row["prompt_tokens"]) <= 1


async def test_a_forecast_that_fails_costs_the_client_nothing(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH)) as r:
        monkeypatch.setattr(r.runtime.forecaster.prefixes, "of", broken)
        monkeypatch.setattr(r.runtime.forecaster.prefixes, "note", broken)
        answer = await r.http.post(CHAT, json={"model": "auto", "messages": ASKED})
        assert (answer.status_code, answer.headers["x-pointsman-basis"]) == (200, "fault")
