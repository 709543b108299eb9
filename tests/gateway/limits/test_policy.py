"""From a request to its claims: never less than it could cost, nothing for callers without limits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Unpriced
from gateway.keys import Caller
from gateway.ledger.charge import Charge, Outcome, nano_usd
from gateway.limits.budgets import Limits, Scope
from gateway.limits.claim import Actual, Claim, Refused, Reservation, Unit, came_to
from gateway.limits.memory import MemoryStore
from gateway.limits.policy import Holder, Worst, actual_of, admit, claims_for, limits_on, worst_case
from models.catalog import Model, Price, Speed
from models.engine import Usage
from tests.gateway.limits.benches import answers, money, requests, tokens

NOW = datetime(2026, 11, 25, 23, 59, 30, tzinfo=UTC)
SMALL = Model(
    name="small",
    engine="scripted",
    tier=0,
    context_tokens=1000,
    price=Price(input_usd=Decimal("0.1"), output_usd=Decimal("0.2")),
)
LARGE = Model(
    name="large",
    engine="scripted",
    tier=1,
    context_tokens=2000,
    price=Price(input_usd=Decimal("1"), output_usd=Decimal("2"), cached_input_usd=Decimal("0.1")),
)
HOURLY = Model(
    name="hourly",
    engine="scripted",
    tier=0,
    context_tokens=1000,
    parallel=2,
    price=Price(hour_usd=Decimal("0.36")),
    speed=Speed(prompt_tokens_per_second=100, completion_tokens_per_second=10),
)
UNPRICED = Model(name="unpriced", engine="scripted", tier=0, context_tokens=1000)
UNMEASURED = HOURLY.model_copy(update={"name": "unmeasured", "speed": None})
DAILY = Holder(Scope.CALLER, "k", "key k", Limits(day_nano_usd=1_000_000))


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hello"}], **fields}


def worst_of(body: dict[str, Any], *models: Model) -> Worst:
    return worst_case(body, len(orjson.dumps(body)), models)


# Whose limits.


def test_a_caller_without_limits_claims_nothing() -> None:
    assert limits_on(Caller("k", "ann"), "t", {}) == ()
    assert limits_on(Caller("k", "ann", team="x"), None, {(Scope.TEAM, "y"): Limits(day_nano_usd=1)}) == ()
    assert claims_for((), worst_of(chat(), UNPRICED), NOW) == ()


def test_a_request_is_bound_by_its_callers_its_teams_and_its_templates_limits() -> None:
    budgets = {
        (Scope.TEAM, "search"): Limits(month_nano_usd=9),
        (Scope.TEMPLATE, "t"): Limits(requests_per_minute=5),
        (Scope.TEMPLATE, "search"): Limits(requests_per_minute=1),
    }
    caller = Caller("k", "ann", team="search", limits=Limits(1, 2, 3, 4, 5))
    claims = claims_for(limits_on(caller, "t", budgets), worst_of(chat(), SMALL), NOW)
    assert [(claim.key, claim.cap) for claim in claims] == [
        ("usd:caller:k:2026-11-25", 1),
        ("usd:caller:k:2026-11", 2),
        ("usd:team:search:2026-11", 9),
        ("requests:caller:k", 3),
        ("tokens:caller:k", 4),
        ("answers:caller:k", 5),
        ("requests:template:t", 5),
    ]
    assert claims[0].resets_seconds == 30
    assert claims[1].resets_seconds == 5 * 86_400 + 30


@pytest.mark.parametrize(
    ("at", "day", "month", "month_seconds"),
    [
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), "2026-12-31", "2026-12", 1),
        (datetime(2027, 1, 1, tzinfo=UTC), "2027-01-01", "2027-01", 31 * 86_400),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), "2028-02-29", "2028-02", 43_200),
        (datetime(2026, 11, 26, 1, tzinfo=timezone(timedelta(hours=2))), "2026-11-25", "2026-11", 5 * 86_400 + 3600),
    ],
)
def test_windows_are_those_of_the_calendar_in_utc(at: datetime, day: str, month: str, month_seconds: float) -> None:
    holder = Holder(Scope.TEAM, "x", "team x", Limits(day_nano_usd=1, month_nano_usd=1))
    daily, monthly = claims_for([holder], worst_of(chat(), SMALL), at)
    assert (daily.key, monthly.key) == (f"usd:team:x:{day}", f"usd:team:x:{month}")
    assert monthly.resets_seconds == month_seconds
    assert 0 < (daily.resets_seconds or 0) <= 86_400


def test_a_request_larger_than_a_minutes_tokens_takes_them_all_rather_than_never_to_fit() -> None:
    [claim] = claims_for(
        [Holder(Scope.CALLER, "k", "key k", Limits(tokens_per_minute=7))], worst_of(chat(), SMALL), NOW
    )
    assert (claim.amount, claim.cap) == (7, 7)


# The worst case.

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@given(texts=st.lists(TEXT, min_size=1, max_size=5), tools=st.booleans())
def test_a_prompt_is_never_more_tokens_than_are_reserved_for_it(texts: list[str], tools: bool) -> None:
    """A byte-level tokeniser makes a byte a token at worst; a template adds less than 16 to each message."""
    body = chat(messages=[{"role": "user", "content": text} for text in texts], **({"tools": []} if tools else {}))
    most = sum(len(text.encode()) for text in texts) + 10 * len(texts) + 600
    assert worst_of(body, LARGE).prompt_tokens >= most


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "https://x/y"}}, {"type": "file"}, "odd"])
def test_a_picture_counts_as_a_whole_context(part: Any) -> None:
    body = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}, part]}])
    assert worst_of(body, SMALL, LARGE).prompt_tokens == 2000


def test_a_text_in_parts_counts_as_a_text() -> None:
    body = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "refusal"}]}])
    assert worst_of(body, LARGE).prompt_tokens < 2000


def test_a_clamp_is_that_of_the_dearest_model() -> None:
    assert Worst(0, 100, 1, (SMALL, LARGE)).clamp_to(20_000) == 10
    assert Worst(0, 100, 1, (LARGE, SMALL)).clamp_to(20_000) == 10


@pytest.mark.parametrize(
    ("fields", "completion", "choices"),
    [
        ({}, None, 1),
        ({"max_tokens": 5}, 5, 1),
        ({"max_completion_tokens": 6, "max_tokens": None}, 6, 1),
        ({"max_completion_tokens": 6, "max_tokens": 9, "n": 3}, 9, 3),
    ],
)
def test_as_much_comes_out_as_the_request_allows(fields: dict[str, Any], completion: int | None, choices: int) -> None:
    worst = worst_of(chat(**fields), SMALL)
    assert (worst.completion_tokens, worst.choices) == (completion, choices)


def test_the_worst_case_is_that_of_the_dearest_model_rounded_up() -> None:
    assert Worst(10, 5, 1, (SMALL, LARGE)).nano_usd() == 10 * 1000 + 5 * 2000
    assert Worst(10, None, 2, (SMALL,)).nano_usd() == 10 * 100 + 2 * 1000 * 200
    assert Worst(5000, 5000, 1, (SMALL,)).nano_usd() == 1000 * 100 + 1000 * 200, "no more than the context"
    thirds = SMALL.model_copy(update={"price": Price(input_usd=Decimal("0.0001"), output_usd=Decimal(0))})
    assert Worst(11, 5, 1, (thirds,)).nano_usd() == 2


def test_answers_that_may_be_in_vain_are_paid_for_besides() -> None:
    worst = Worst(10, 5, 1, (SMALL, LARGE), (SMALL, SMALL))
    assert worst.nano_usd() == 10 * 1000 + 5 * 2000 + 2 * (10 * 100 + 5 * 200)
    assert worst.tokens() == 3 * 15
    assert worst.clamp_to(worst.nano_usd()) == 5
    assert worst.clamp_to(worst.nano_usd() - 1) == 4


@given(
    prompt=st.integers(0, 3000),
    asked=st.none() | st.integers(1, 3000),
    n=st.integers(1, 8),
    used=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    model=st.sampled_from([SMALL, LARGE]),
)
def test_no_answer_within_its_bounds_costs_more_than_its_worst_case(
    prompt: int, asked: int | None, n: int, used: tuple[float, float, float], model: Model
) -> None:
    worst = Worst(prompt, asked, n, (SMALL, LARGE))
    in_tokens = int(min(prompt, model.context_tokens) * used[0])
    out_tokens = int(n * min(asked or model.context_tokens, model.context_tokens) * used[1])
    cost = nano_usd(model.cost_usd(Usage(in_tokens, out_tokens, int(in_tokens * used[2])), 0.0))
    assert cost is not None
    assert cost <= worst.nano_usd()
    assert in_tokens + out_tokens <= worst.tokens()


def test_by_the_hour_it_is_the_measured_speed_shared_by_all_places() -> None:
    """0.0001 USD a second; 100 tokens in and 20 out take 1 + 2 seconds alone, twice as many beside another."""
    assert Worst(100, 20, 1, (HOURLY,)).nano_usd() == 600_000


@pytest.mark.parametrize("model", [UNPRICED, UNMEASURED], ids=lambda model: model.name)
def test_a_model_of_unknown_cost_is_refused_under_a_budget_and_named(model: Model) -> None:
    worst = worst_of(chat(), SMALL, model)
    with pytest.raises(Unpriced, match=model.name) as refused:
        claims_for([DAILY], worst, NOW)
    assert (refused.value.status, refused.value.param) == (400, "model")
    rates = Holder(Scope.CALLER, "k", "key k", Limits(requests_per_minute=1))
    assert len(claims_for([rates], worst, NOW)) == 1, "rates need no price"


# Clamping.


@given(
    prompt=st.integers(0, 1500),
    asked=st.none() | st.integers(1, 1500),
    n=st.integers(1, 4),
    left=st.integers(0, 10_000_000),
    models=st.sampled_from([(SMALL,), (SMALL, LARGE), (HOURLY,)]),
)
def test_a_clamped_request_fits_what_is_left_and_one_token_more_does_not(
    prompt: int, asked: int | None, n: int, left: int, models: tuple[Model, ...]
) -> None:
    worst = Worst(prompt, asked, n, models)
    most = worst.clamp_to(left)
    if most is None:
        assert replace(worst, completion_tokens=1).nano_usd() > left
        return
    assert replace(worst, completion_tokens=most).nano_usd() <= left
    allowed = min(min(asked or model.context_tokens, model.context_tokens) for model in models)
    assert most == allowed or replace(worst, completion_tokens=most + 1).nano_usd() > left


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("cap", "clamp", "max_tokens"),
    [
        (12_000, False, 10),  # exactly at the cap
        (11_999, False, None),
        (11_999, True, 9),
        (10_200, True, 1),
        (10_199, True, None),
        (0, True, None),
    ],
)
async def test_a_request_over_its_budget_is_refused_or_made_shorter(
    cap: int, clamp: bool, max_tokens: int | None
) -> None:
    """100 tokens in at 100 nano-dollars and ten out at 200 are 12,000."""
    store, holder = MemoryStore(), Holder(Scope.CALLER, "k", "key k", Limits(day_nano_usd=cap, month_nano_usd=50_000))
    worst = Worst(100, 10, 1, (SMALL,))
    if max_tokens is None:
        with pytest.raises(Refused) as refused:
            await admit(store, [holder], worst, clamp=clamp, now=NOW)
        assert refused.value.remaining == cap
        return
    admission = await admit(store, [holder], worst, clamp=clamp, now=NOW)
    assert admission is not None
    assert admission.max_tokens == max_tokens
    assert admission.reservation.claims[0].amount == 10_000 + 200 * max_tokens


@pytest.mark.anyio
async def test_clamping_heeds_every_budget() -> None:
    day, month = Limits(day_nano_usd=11_000), Limits(month_nano_usd=10_600)
    holders = [Holder(Scope.CALLER, "k", "key k", day), Holder(Scope.TEAM, "t", "team t", month)]
    admission = await admit(MemoryStore(), holders, Worst(100, 10, 1, (SMALL,)), clamp=True, now=NOW)
    assert admission is not None
    assert admission.max_tokens == 3


@pytest.mark.anyio
async def test_a_request_without_an_own_limit_is_given_one_only_where_money_is_at_stake() -> None:
    worst = Worst(1, None, 1, (SMALL,))
    rates = Holder(Scope.CALLER, "k", "key k", Limits(requests_per_minute=9))
    admissions = [await admit(MemoryStore(), [holder], worst, clamp=False, now=NOW) for holder in (DAILY, rates)]
    assert [admission.max_tokens for admission in admissions if admission] == [1000, None]
    assert await admit(MemoryStore(), [], worst, clamp=True, now=NOW) is None


# Settling.

CHARGE = Charge(
    id="req_1",
    at=NOW,
    outcome=Outcome.OK,
    status=200,
    code=None,
    streamed=False,
    attempts=1,
    total_seconds=0.5,
    prompt_tokens=3,
    completion_tokens=4,
    cost_usd=Decimal("0.0000000025"),
)


@pytest.mark.parametrize(
    ("charge", "actual"),
    [
        (CHARGE, {Unit.NANO_USD: 2, Unit.TOKENS: 7}),
        (CHARGE._replace(cost_usd=None), {Unit.NANO_USD: None, Unit.TOKENS: 7}),
        (CHARGE._replace(completion_tokens=None), {Unit.NANO_USD: 2, Unit.TOKENS: None}),
        (
            CHARGE._replace(attempts=0, cost_usd=None, prompt_tokens=None),
            {Unit.NANO_USD: 0, Unit.TOKENS: 0},
        ),
    ],
    ids=["all known", "cost unknown", "tokens unknown", "nobody called"],
)
def test_a_charge_says_what_its_request_came_to(charge: Charge, actual: Actual) -> None:
    assert actual_of(charge) == actual


@pytest.mark.parametrize(
    ("claim", "actual", "came"),
    [
        (money(9, 10), {Unit.NANO_USD: 4}, 4),
        (money(9, 10), {Unit.NANO_USD: None}, 9),
        (tokens(9, 10), {}, 9),
        (requests(10), {Unit.NANO_USD: 0, Unit.TOKENS: 0}, 1),
        (answers(10), {}, 0),
    ],
)
def test_unknown_is_the_worst_case_and_an_answer_that_is_over_takes_no_place(
    claim: Claim, actual: Actual, came: int
) -> None:
    assert came_to(claim, actual) == came
    assert Reservation("1", (claim,), (0,)).degraded is False
