"""Clients that leave and engines that die, with real engines: who stops, who learns what, and what is charged."""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import APIError, InternalServerError, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

from tests.processes import alive, cpu_seconds, until
from tests.real.server import LARGE, RESTART_TIMEOUT_SECONDS, Server

pytestmark = pytest.mark.real

# A request that nobody stops keeps two free cores busy for half a minute: 400 tokens, or a prompt of 2,000.
LONG_ANSWER_TOKENS = 400
LONG_PROMPT_WORDS = 2000
READ_CHUNKS = 3
# `Engine` promises a second, the engine looks up after each batch of the prompt, and the machine may be busy.
HANG_UP_LIMIT_SECONDS = 6.0
WINDOW_SECONDS = 0.5
IDLE_CPU_SECONDS = 0.05  # in a window; an engine at work takes nearly all of two cores, when busy a part of one
AT_WORK_CPU_SECONDS = 0.5
WORK_TIMEOUT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _engine_is_back(gateway: Server) -> Iterator[None]:
    """Each test begins and leaves with a large model that can be called."""
    gateway.wait_until_back(LARGE)
    yield
    gateway.wait_until_back(LARGE)


# Clients that leave


def test_a_client_that_leaves_a_stream_stops_the_engine_and_is_charged_for_what_was_made(gateway: Server) -> None:
    engine = gateway.engine_process(LARGE)
    with gateway.one_charge() as charge:
        with _long_stream(gateway.client) as chunks:
            _read(chunks, READ_CHUNKS)
        print(f"the engine is idle {_until_idle(engine):.1f} s after its client left")

    assert (charge["outcome"], charge["status"], charge["streamed"]) == ("gone", 200, 1)
    assert READ_CHUNKS <= charge["completion_tokens"] < LONG_ANSWER_TOKENS
    assert charge["prompt_tokens"] > 0
    assert charge["cost_nano_usd"] > 0


def test_a_client_that_hangs_up_before_the_first_token_stops_the_engine(gateway: Server) -> None:
    """What was computed until then is charged by time: nobody has counted it in tokens."""
    engine = gateway.engine_process(LARGE)
    with gateway.one_charge() as charge:
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(_long_request(gateway))
            _until_at_work(engine)
        print(f"the engine is idle {_until_idle(engine):.1f} s after its client left")

    assert (charge["outcome"], charge["status"], charge["streamed"]) == ("gone", None, 0)
    assert (charge["prompt_tokens"], charge["completion_tokens"]) == (None, None)
    assert charge["cost_nano_usd"] > 0


def test_clients_that_leave_give_their_places_back(gateway: Server) -> None:
    """One more leaves than the model has places; the next client does not wait for any of them."""
    for _ in range(3):
        with gateway.one_charge(), _long_stream(gateway.client) as chunks:
            _read(chunks, 1)

    assert _say_one_word(gateway.client)


# Engines that die


def test_an_engine_that_dies_in_an_answer_ends_the_stream_with_an_error_and_comes_back(gateway: Server) -> None:
    engine = gateway.engine_process(LARGE)
    restarts = gateway.metric("pointsman_engine_restarts", model=LARGE)
    with gateway.one_charge() as charge, _long_stream(gateway.client) as chunks:
        _read(chunks, READ_CHUNKS)
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(APIError) as cut:
            list(chunks)

    assert cut.value.code == "engine_cut"
    assert (charge["outcome"], charge["status"], charge["code"]) == ("cut", 200, "engine_cut")
    assert READ_CHUNKS <= charge["completion_tokens"] < LONG_ANSWER_TOKENS
    assert gateway.get("/livez")[0] == 200

    until(lambda: not alive(engine), RESTART_TIMEOUT_SECONDS, "the dead engine is reaped")
    print(f"the engine is back after {gateway.wait_until_back(LARGE):.1f} s")
    assert gateway.engine_process(LARGE) != engine
    assert gateway.metric("pointsman_engine_restarts", model=LARGE) == restarts + 1
    assert _say_one_word(gateway.client)


def test_an_engine_that_dies_before_the_first_token_is_a_503_that_says_when_to_come_back(gateway: Server) -> None:
    """The request names the model, so no other may answer it."""
    engine = gateway.engine_process(LARGE)
    with gateway.one_charge() as charge, ThreadPoolExecutor(1) as thread:
        asking = thread.submit(_long_plain, gateway.client)
        _until_at_work(engine)
        os.kill(engine, signal.SIGKILL)
        failed = asking.exception()

    assert isinstance(failed, InternalServerError)
    assert (failed.status_code, failed.code, failed.type) == (503, "engine_unavailable", "service_unavailable_error")
    assert isinstance(failed.body, dict)
    assert set(failed.body) == {"message", "type", "param", "code"}
    assert int(failed.response.headers["retry-after"]) > 0
    assert failed.response.headers["x-request-id"] == charge["id"]
    assert (charge["outcome"], charge["status"], charge["code"]) == ("failed", 503, "engine_unavailable")
    assert charge["attempts"] == 1


def test_while_an_engine_is_away_the_client_is_told_so_and_nothing_of_our_insides(gateway: Server) -> None:
    os.kill(gateway.engine_process(LARGE), signal.SIGKILL)
    until(lambda: gateway.get("/readyz")[0] == 503, RESTART_TIMEOUT_SECONDS, "the safe tier is away")

    with gateway.one_charge() as charge, pytest.raises(InternalServerError) as away:
        _say_one_word(gateway.client)
    assert (away.value.status_code, away.value.code) == (503, "engine_unavailable")
    assert isinstance(away.value.body, dict)
    assert "/" not in away.value.body["message"]  # no path and no address
    assert charge["outcome"] == "failed"


def _long_stream(client: OpenAI) -> Stream[ChatCompletionChunk]:
    return client.chat.completions.create(
        model=LARGE,
        messages=[{"role": "user", "content": "Write a long story about a lighthouse keeper."}],
        max_tokens=LONG_ANSWER_TOKENS,
        temperature=0,
        stream=True,
    )


def _read(chunks: Stream[ChatCompletionChunk], count: int) -> None:
    """Read until *count* chunks with text have come: tokens that were made."""
    for chunk in chunks:
        count -= bool(chunk.choices and chunk.choices[0].delta.content)
        if not count:
            return
    pytest.fail("the answer ended early")


def _long_prompt() -> str:
    """Never the same twice: a prompt cache would make it short."""
    return f"How many words are these? {' '.join(random.choice(('red', 'blue')) for _ in range(LONG_PROMPT_WORDS))}"


def _long_plain(client: OpenAI) -> object:
    return client.chat.completions.create(
        model=LARGE, messages=[{"role": "user", "content": _long_prompt()}], max_tokens=1
    )


def _long_request(gateway: Server) -> bytes:
    """As bytes on the wire."""
    body = json.dumps({"model": LARGE, "messages": [{"role": "user", "content": _long_prompt()}]}).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1",
        f"authorization: Bearer {gateway.key}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def _say_one_word(client: OpenAI) -> str | None:
    answer = client.chat.completions.create(
        model=LARGE, messages=[{"role": "user", "content": "Say hello."}], max_tokens=1, temperature=0
    )
    return answer.choices[0].message.content


def _until_at_work(engine: int) -> None:
    before = cpu_seconds(engine)
    until(lambda: cpu_seconds(engine) - before > AT_WORK_CPU_SECONDS, WORK_TIMEOUT_SECONDS, "the engine works")


def _until_idle(engine: int) -> float:
    """Returns after how many seconds the engine did nothing. Fails when it goes on working."""
    start = time.monotonic()
    assert alive(engine)
    while (waited := time.monotonic() - start) < HANG_UP_LIMIT_SECONDS:
        before = cpu_seconds(engine)
        time.sleep(WINDOW_SECONDS)  # a window to measure in, not a wait
        if cpu_seconds(engine) - before <= IDLE_CPU_SECONDS:
            return waited
    pytest.fail(f"the engine still works {HANG_UP_LIMIT_SECONDS:g} s after its client has left")
