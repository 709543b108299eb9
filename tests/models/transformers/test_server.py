"""Our server around a list of words for a model: one answer at a time, to who has the key, until the client leaves."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from openai import AuthenticationError, BadRequestError, OpenAI

from models.transformers.server import Served, Server
from models.transformers.wire import Asked
from tests.processes import until

END = 0
WORDS = ["", "one ", "two ", "three ", "four "]
WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Made:
    id: int
    logprob: float = -0.5
    others: Sequence[tuple[int, float]] = ((1, -0.5),)


@dataclass
class Model:
    """Says *ids*; before each from the second on it waits for `go`. `stopped`: it was told to stop in the middle."""

    ids: Sequence[int] = (1, 2, 3, END)
    go: threading.Event = field(default_factory=threading.Event)
    begun: int = 0
    stopped: bool = False

    def generate(self, ids: list[int], most: int, asked: Asked, go_on: Callable[[], bool]) -> Iterator[Made]:
        self.begun += 1
        for place, id in enumerate(self.ids[:most]):
            while place and not self.go.wait(0.01):
                if not go_on():
                    self.stopped = True
                    return
            yield Made(id)


@contextmanager
def serving(model: Model, context_tokens: int = 100) -> Iterator[tuple[OpenAI, str]]:
    served = Served(
        "m",
        context_tokens,
        frozenset({END}),
        lambda asked: [1] * (len(asked.prompt) if isinstance(asked.prompt, str) else 5),
        lambda ids: "".join(WORDS[id] for id in ids),
        model.generate,
    )
    server = Server(served, "key")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with OpenAI(base_url=f"{server.address}/v1", api_key="key", max_retries=0) as client:
            yield client, server.address
    finally:
        model.go.set()
        server.shutdown()
        server.server_close()
        thread.join()


def ready() -> Model:
    model = Model()
    model.go.set()
    return model


HELLO: Any = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def test_plain_and_streamed_answers_say_the_same() -> None:
    with serving(ready()) as (client, _):
        plain = client.chat.completions.create(**HELLO)
        chunks = list(client.chat.completions.create(**HELLO, stream=True, stream_options={"include_usage": True}))

    assert plain.choices[0].message.content == "one two three "
    assert plain.choices[0].finish_reason == "stop"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two three "
    assert plain.usage == chunks[-1].usage
    assert plain.usage is not None
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (5, 3)


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"max_tokens": 2}, "one two ", "length"),
        ({"stop": "tw"}, "one ", "stop"),
        ({"stop": ["zzz"]}, "one two three ", "stop"),
    ],
)
def test_it_ends_where_it_is_asked_to(fields: dict[str, Any], text: str, reason: str) -> None:
    with serving(ready()) as (client, _):
        choice = client.chat.completions.create(**HELLO, **fields).choices[0]

    assert (choice.message.content, choice.finish_reason) == (text, reason)


def test_what_the_context_has_no_room_for_is_refused_before_a_stream_begins() -> None:
    with serving(ready(), context_tokens=5) as (client, _):
        for streamed in (False, True):
            with pytest.raises(BadRequestError) as refused:
                client.chat.completions.create(**HELLO, stream=streamed)
            assert refused.value.code == "context_length_exceeded"


def test_who_has_no_key_gets_nothing() -> None:
    model = ready()
    with serving(model) as (client, address), OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as stranger:
        with pytest.raises(AuthenticationError):
            stranger.chat.completions.create(**HELLO)
        assert client.completions.create(model="m", prompt="a", max_tokens=1).choices[0].text == "one "

    assert model.begun == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000])
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with serving(ready()) as (_, address):
        headers = {"authorization": "Bearer key"}
        answer = httpx2.post(f"{address}/v1/chat/completions", content=body, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_stops_the_work_and_the_next_has_its_turn(streamed: bool) -> None:
    model = Model()
    with serving(model) as (client, address):
        headers = {"authorization": "Bearer key"}
        with (
            pytest.raises(httpx2.ReadTimeout),
            httpx2.Client(timeout=0.3) as leaving,
            leaving.stream(
                "POST", f"{address}/v1/chat/completions", json={**HELLO, "stream": streamed}, headers=headers
            ) as answer,
        ):
            answer.read()
        until(lambda: model.stopped, WAIT_SECONDS, "the work has stopped")
        model.go.set()
        assert client.chat.completions.create(**HELLO).choices[0].message.content == "one two three "


def test_a_client_that_leaves_while_it_waits_is_never_computed_for() -> None:
    model = Model()
    with serving(model) as (client, address):
        headers = {"authorization": "Bearer key"}
        first = threading.Thread(target=lambda: client.chat.completions.create(**HELLO))
        first.start()
        until(lambda: model.begun == 1, WAIT_SECONDS, "the first is computed")
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{address}/v1/chat/completions", json=HELLO, headers=headers, timeout=0.3)
        model.go.set()
        first.join()
        client.chat.completions.create(**HELLO)

    assert model.begun == 2


def test_its_prompt_can_be_counted_without_an_answer() -> None:
    model = ready()
    with serving(model) as (_, address):
        headers = {"authorization": "Bearer key"}
        told = httpx2.post(f"{address}/v1/chat/completions/input_tokens", json=HELLO, headers=headers).json()

    assert (told["input_tokens"], model.begun) == (5, 0)
