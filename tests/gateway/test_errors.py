"""Every error a client can see has OpenAI's shape, and every engine's error has a view for clients."""

from collections.abc import Iterator

import orjson
import pytest

from gateway import errors
from gateway.errors import GatewayError, Overloaded, Refused, error_response, of_engine
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


def kinds(of: type[Exception]) -> Iterator[type[Exception]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("kind", set(kinds(GatewayError)) - {Refused}, ids=lambda kind: kind.__name__)
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


def test_a_response_carries_the_body_and_the_headers() -> None:
    response = error_response(Overloaded("wait", 2.1), {"allow": "GET"})
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/json"
    assert (response.headers["retry-after"], response.headers["allow"]) == ("3", "GET")
    assert orjson.loads(bytes(response.body))["error"]["message"] == "wait"
