"""Real vLLM and our server of transformers on the processor, behind a real gateway, with the real 135M model: one start
for all. Texts of a model this small and this coarse differ from engine to engine, so none is compared.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml
from openai import BadRequestError, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

from models.catalog import Model, load_catalog
from tests.processes import alive, children, until
from tests.real.server import TINY, Server, serving
from tests.torch_side import torch_side

START_TIMEOUT_SECONDS = 550.0  # 40 s on two free cores, of which vLLM's own imports take half
GONE_TIMEOUT_SECONDS = 60.0
LONG_ANSWER_TOKENS = 1500

pytestmark = [pytest.mark.real, pytest.mark.timeout(START_TIMEOUT_SECONDS + 50)]

FRANCE = "What is the capital of France? Answer with one word."
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "big": {"type": "boolean"}},
    "required": ["city", "big"],
    "additionalProperties": False,
}
VLLM, FOUR_BITS = "smollm2-135m-instruct-bf16", "smollm2-135m-instruct-nf4"
BOTH = pytest.mark.parametrize("model", [VLLM, FOUR_BITS])


def catalog() -> dict[str, Any]:
    """The smallest model three times: by llama.cpp, by transformers in 4 bits, and, as the safe tier, by vLLM."""
    rows = load_catalog().models
    whole = rows[VLLM]
    coarse = Model(
        name=FOUR_BITS,
        engine="transformers",
        tier=1,
        context_tokens=1024,
        checkpoint=whole.checkpoint,
        numerics={"quantization": "nf4", "dtype": "float32"},  # type: ignore[arg-type]  # pydantic makes it of this
    )
    chosen = [rows[TINY], coarse, whole.model_copy(update={"tier": 2, "context_tokens": 2048, "threads": 2})]
    return {"models": [row.model_dump(mode="json", exclude_defaults=True) for row in chosen]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    python = torch_side()
    folder = tmp_path_factory.mktemp("torch")
    (folder / "catalog.yaml").write_text(yaml.safe_dump(catalog()), encoding="utf-8")
    settings = {
        "POINTSMAN_CATALOG": str(folder / "catalog.yaml"),
        "POINTSMAN_MODELS": "all",
        "POINTSMAN_TORCH_PYTHON": str(python),
    }
    with serving(folder, settings) as server:
        took_seconds = server.wait_until_ready(START_TIMEOUT_SECONDS)
        print(f"three engines are ready after {took_seconds:.0f} s")
        yield server
        assert server.stop() == 0


def ask(server: Server, model: str, text: str = FRANCE, **fields: Any) -> ChatCompletion:
    body = {"max_tokens": 8, "temperature": 0, **fields}
    answer: ChatCompletion = server.client.chat.completions.create(model=model, messages=_said(text), **body)
    return answer


def stream(server: Server, model: str, text: str = FRANCE, **fields: Any) -> Stream[ChatCompletionChunk]:
    body: dict[str, Any] = {"max_tokens": 8, "temperature": 0, "stream": True, **fields}
    chunks: Stream[ChatCompletionChunk] = server.client.chat.completions.create(
        model=model, messages=_said(text), **body
    )
    return chunks


def _said(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def vllm_process(server: Server) -> int:
    """vLLM's own server, a child of the process that the gateway keeps."""
    [process_id] = children(server.engine_process(VLLM))
    return process_id


# Answers


@BOTH
def test_it_answers_plainly_with_its_counts(served: Server, model: str) -> None:
    with served.one_charge() as charge:
        answer = ask(served, model)

    assert answer.model == model
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8
    assert (charge["model"], charge["outcome"]) == (model, "ok")
    assert charge["completion_tokens"] == answer.usage.completion_tokens
    assert charge["prompt_tokens"] == answer.usage.prompt_tokens > 10
    assert charge["cost_nano_usd"] > 0


@BOTH
def test_it_answers_piece_by_piece(served: Server, model: str) -> None:
    chunks = list(stream(served, model, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]

    assert "".join(texts)
    assert sum(map(bool, texts)) > 1
    assert {chunk.model for chunk in chunks} == {model}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("length", "stop")
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 8


@BOTH
def test_log_probabilities_are_those_of_the_tokens_taken(served: Server, model: str) -> None:
    answer = ask(served, model, logprobs=True, top_logprobs=3)
    told = answer.choices[0].logprobs

    assert told is not None
    assert told.content
    for token in told.content:
        likeliest = [other.logprob for other in token.top_logprobs]
        assert token.logprob <= 1e-6
        assert len(likeliest) >= 3
        assert sorted(likeliest, reverse=True)[:3] == likeliest[:3]
        assert token.logprob == pytest.approx(max(likeliest), abs=1e-3)  # at temperature 0 the likeliest is taken


@BOTH
def test_completions_are_answered_too(served: Server, model: str) -> None:
    answer = served.client.completions.create(model=model, prompt="The capital of France is", max_tokens=4, logprobs=2)

    assert answer.choices[0].text
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.tokens
    assert len(told.tokens) == len(told.token_logprobs or [])


@BOTH
def test_the_same_seed_gives_the_same_answer(served: Server, model: str) -> None:
    texts = {
        ask(served, model, "Invent a word.", temperature=1.0, seed=7, max_tokens=6).choices[0].message.content
        for _ in range(2)
    }

    assert len(texts) == 1


@BOTH
def test_an_answer_ends_before_a_text_that_stops_it(served: Server, model: str) -> None:
    whole = ask(served, model, "Count from 1 to 10.", max_tokens=16).choices[0].message.content or ""
    stop = whole.strip()[2:4]
    cut = ask(served, model, "Count from 1 to 10.", max_tokens=16, stop=[stop]).choices[0]

    assert stop
    assert stop not in (cut.message.content or "")
    assert cut.finish_reason == "stop"


@BOTH
def test_a_prompt_too_long_is_refused_as_openai_does(served: Server, model: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        ask(served, model, "word " * 2100)

    assert refused.value.code == "context_length_exceeded"


def test_a_json_schema_is_kept_to(served: Server) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    answer = ask(served, VLLM, "Paris is big. Write it as JSON.", max_tokens=40, response_format=schema)

    written = json.loads(answer.choices[0].message.content or "")
    assert written.keys() == {"city", "big"}
    assert written["city"] in ("Paris", "Rome")


def test_what_our_server_of_transformers_cannot_do_goes_elsewhere_or_is_refused(served: Server) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    with pytest.raises(BadRequestError) as refused:
        ask(served, FOUR_BITS, response_format=schema)

    assert refused.value.code == "unsupported_ability"


def test_several_choices_come_at_once(served: Server) -> None:
    answer = ask(served, VLLM, n=2, temperature=1.0)

    assert [choice.index for choice in answer.choices] == [0, 1]


# Behind the gateway


def test_a_tier_of_vllm_serves_behind_auto(served: Server) -> None:
    """Nothing is proved of the cheaper two, so that the safe tier answers."""
    raw = served.client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": FRANCE}], max_tokens=4
    )

    assert raw.headers["x-pointsman-model"] == VLLM
    assert raw.headers["x-pointsman-basis"] == "safe"
    assert raw.parse().model == VLLM


def test_the_server_is_closed_to_whoever_lacks_its_key(served: Server) -> None:
    words = Path(f"/proc/{vllm_process(served)}/cmdline").read_bytes().split(b"\0")
    port = int(words[words.index(b"--port") + 1])
    with pytest.raises(HTTPError) as refused:
        urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10)

    with closing(refused.value):
        assert refused.value.code == 401
    assert not any(word.startswith(b"--api-key") for word in words)


def test_a_prompt_that_begins_as_another_did_is_read_from_the_cache(served: Server) -> None:
    long = "The quick brown fox jumps over the lazy dog. " * 60
    with served.one_charge() as first:
        ask(served, VLLM, long + "One.", max_tokens=1)
    with served.one_charge() as second:
        ask(served, VLLM, long + "Two.", max_tokens=1)

    assert (first["cached_tokens"] or 0) < first["prompt_tokens"] / 2
    assert second["cached_tokens"] > second["prompt_tokens"] / 2
    until(
        lambda: served.metric("pointsman_engine_prefix_hit_ratio", model=VLLM) > 0,
        GONE_TIMEOUT_SECONDS,
        "the server's hits are in our metrics",
    )


@BOTH
def test_a_client_that_leaves_a_stream_stops_the_work(served: Server, model: str) -> None:
    with served.one_charge() as charge, stream(served, model, "Write a long story.", max_tokens=800) as chunks:
        for _, chunk in zip(range(3), chunks, strict=False):
            assert chunk.choices
    until(lambda: _running(served, model) == 0, GONE_TIMEOUT_SECONDS, "nothing is computed any more")

    assert charge["outcome"] == "gone"
    assert charge["completion_tokens"] < 800
    assert ask(served, model, max_tokens=1).choices


def _running(server: Server, model: str) -> float:
    """As vLLM says; of our own server the next answer says it, which comes only after the one before."""
    return server.metric("pointsman_engine_running_requests", model=model) if model == VLLM else 0


def test_a_server_that_is_killed_comes_back(served: Server) -> None:
    """The last, as it takes a start. Its engine is another process of its own, which must not be left."""
    killed = vllm_process(served)
    below = children(killed)
    os.kill(killed, signal.SIGKILL)
    until(
        lambda: served.metric("pointsman_engine_up", model=VLLM) == 0, GONE_TIMEOUT_SECONDS, "the gateway has noticed"
    )
    until(lambda: not any(map(alive, {killed} | below)), GONE_TIMEOUT_SECONDS, "what it started has ended")
    took_seconds = served.wait_until_back(VLLM, START_TIMEOUT_SECONDS)
    print(f"vLLM is back after {took_seconds:.0f} s")

    assert vllm_process(served) != killed
    assert ask(served, VLLM).choices[0].message.content
    assert served.metric("pointsman_engine_restarts", model=VLLM) == 1
