"""The headers that clients pace themselves by: OpenAI's names, Go's durations, the tightest limit."""

import pytest

from gateway.limits.claim import Reservation
from gateway.limits.headers import go_duration, ratelimit_headers
from tests.gateway.limits.benches import answers, money, requests, tokens


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.02, "20ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (1.001, "2s"),
        (59.2, "1m0s"),
        (360, "6m0s"),
        (3599.5, "1h0m0s"),
        (7325, "2h2m5s"),
    ],
)
def test_durations_are_written_as_go_writes_them_and_rounded_up(seconds: float, written: str) -> None:
    assert go_duration(seconds) == written


def test_the_limit_with_the_least_left_is_told_for_requests_and_for_tokens() -> None:
    claims = (answers(3), money(1, 9), requests(60), requests(10, key="requests:team:t"), tokens(5, 100))
    assert ratelimit_headers(Reservation("1", claims, (2, 8, 30, 5, 50))) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": "30s",
    }


def test_without_a_limit_per_minute_there_is_nothing_to_tell() -> None:
    assert ratelimit_headers(Reservation("1", (money(1, 9), answers(3)), (8, 2))) == {}
    assert ratelimit_headers(Reservation("1", (), ())) == {}
