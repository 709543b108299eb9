"""Every error a client can see has OpenAI's shape, and every engine's error has a view for clients."""

from collections.abc import Iterator

import pytest

from gateway import errors
from gateway.errors import (
    BudgetSpent,
    GatewayError,
    LimitReached,
    LimitsUnavailable,
    RateLimited,
    Refused,
    of_engine,
    of_limit,
)
from gateway.limits.claim import Claim, Kind, Unit, Unreachable
from gateway.limits.claim import Refused as LimitRefused
from models.engine import (
    ContextTooLong,
    EngineBusy,
    EngineCut,
    EngineError,
    EngineRefused,
    EngineUnavailable,
)
from tests.gateway.wire import ERROR_KEYS

# an engine's error -> status, code, param, Retry-After
VIEWS: list[tuple[EngineError, int, str, str | None, str | None]] = [
    (EngineUnavailable("x"), 503, "engine_unavailable", None, "2"),
    (EngineBusy("x"), 503, "server_is_overloaded", None, "1"),
    (EngineBusy("x", retry_after_seconds=0.2), 503, "server_is_overloaded", None, "1"),
    (EngineBusy("x", retry_after_seconds=30), 503, "server_is_overloaded", None, "30"),
    (EngineRefused("x", status=422, code="odd", param="tools"), 422, "odd", "tools", None),
    (EngineRefused("x", status=400), 400, "invalid_request", None, None),
    (ContextTooLong("x"), 400, "context_length_exceeded", "messages", None),
    (EngineCut("x"), 502, "engine_cut", None, None),
]


MADE_FROM_OTHERS = {Refused, LimitReached, RateLimited, BudgetSpent}  # tested by their views below

DAY = Claim("usd:team:t:2026-11-25", Kind.WINDOW, Unit.NANO_USD, 5, 1_500_000_000, "team search", "day", 3600.2)
REQUESTS = Claim("requests:caller:k", Kind.BUCKET, Unit.REQUESTS, 1, 60, "key k")
TOKENS = Claim("tokens:caller:k", Kind.BUCKET, Unit.TOKENS, 100, 60, "key k")
ANSWERS = Claim("answers:caller:k", Kind.CONCURRENCY, Unit.ANSWERS, 1, 4, "key k")

# a refused claim, what is left, when it may fit -> class, type, code, words of the message, headers
LIMIT_VIEWS: list[tuple[Claim, int, float | None, type[GatewayError], str, str, list[str], dict[str, str]]] = [
    (
        DAY,
        3,
        3600.2,
        BudgetSpent,
        "insufficient_quota",
        "insufficient_quota",
        ["budget of 1.5 USD per day of team search", "0.000000003 USD left", "day (UTC) begins in 3601 s"],
        {"retry-after": "3601", "x-should-retry": "false"},
    ),
    (
        REQUESTS,
        0,
        0.4,
        RateLimited,
        "rate_limit_error",
        "rate_limit_exceeded",
        ["limit of 60 requests per minute of key k", "takes up to 1 request,", "0 requests left", "again in 1 s"],
        {
            "retry-after": "1",
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1m0s",
        },
    ),
    (
        TOKENS,
        60,
        None,
        RateLimited,
        "rate_limit_error",
        "rate_limit_exceeded",
        ["limit of 60 tokens per minute", "takes up to 100 tokens", "it never will"],
        {
            "x-ratelimit-limit-tokens": "60",
            "x-ratelimit-remaining-tokens": "60",
            "x-ratelimit-reset-tokens": "0s",
        },
    ),
    (
        ANSWERS,
        0,
        1.0,
        RateLimited,
        "rate_limit_error",
        "rate_limit_exceeded",
        ["limit of 4 answers at once of key k", "when another answer is over"],
        {"retry-after": "1"},
    ),
]


def kinds(of: type[Exception]) -> Iterator[type[Exception]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize(
    "kind", sorted({*kinds(GatewayError)} - MADE_FROM_OTHERS, key=str), ids=lambda kind: kind.__name__
)
def test_every_error_has_a_status_a_type_a_code_and_the_four_keys(kind: type[GatewayError]) -> None:
    error = kind("what to do")
    assert 400 <= error.status < 600
    assert set(error.body()["error"]) == ERROR_KEYS
    assert error.body()["error"]["message"] == "what to do"
    assert error.code
    assert (error.type == "invalid_request_error") == (error.status < 500)


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]
    own = [code for code in codes if code != GatewayError.code]
    assert len(own) == len(set(own))


@pytest.mark.parametrize(("error", "status", "code", "param", "retry_after"), VIEWS, ids=lambda value: str(value)[:20])
def test_an_engines_error_is_told_to_the_client(
    error: EngineError, status: int, code: str, param: str | None, retry_after: str | None
) -> None:
    seen = of_engine(error)
    assert (seen.status, seen.code, seen.param, seen.message) == (status, code, param, "x")
    assert seen.headers().get("retry-after") == retry_after


def test_there_is_a_view_of_every_engines_error() -> None:
    assert {type(view[0]) for view in VIEWS} == set(kinds(EngineError))


@pytest.mark.parametrize(
    ("claim", "left", "after", "kind", "type_", "code", "words", "headers"),
    LIMIT_VIEWS,
    ids=lambda value: str(value)[:9],
)
def test_a_limit_that_refuses_is_told_with_whose_it_is_its_cap_and_when_it_resets(
    claim: Claim,
    left: int,
    after: float | None,
    kind: type[GatewayError],
    type_: str,
    code: str,
    words: list[str],
    headers: dict[str, str],
) -> None:
    seen = of_limit(LimitRefused(claim, left, after))
    assert type(seen) is kind
    assert (seen.status, seen.type, seen.code) == (429, type_, code)
    assert set(seen.body()["error"]) == ERROR_KEYS
    for some in words:
        assert some in seen.message
    assert seen.headers() == headers


def test_a_store_of_limits_that_does_not_answer_is_our_fault_and_may_be_tried_again() -> None:
    seen = of_limit(Unreachable("redis://secret@host"))
    assert isinstance(seen, LimitsUnavailable)
    assert (seen.status, seen.headers()) == (503, {"retry-after": "2"})
    assert "secret" not in seen.message
