"""LiteLLM as an engine, against a local server that speaks as providers do: LiteLLM itself talks to it, over HTTP.

LiteLLM is imported by the first engine that starts, once for the whole process; nothing here reaches past loopback.
"""

import asyncio
import base64
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from models import litellm as ours
from models.catalog import Price
from models.engine import (
    Call,
    ContextTooLong,
    EngineBusy,
    EngineCut,
    EngineError,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Operation,
    Reply,
    Usage,
)
from models.litellm import LiteLLMEngine, price_of
from tests.fakes import FakeUpstream, Received, Step, unused_port

# LiteLLM ignores these warnings of its own code by filters that pytest does not keep.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning"),
]

T = TypeVar("T")

KEY = "sk-canary-Zm9vYmFyYmF6"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5}
CLAUDE, OPENAI = "anthropic/claude-sonnet-4-5", "openai/gpt-4o-mini"
TEST_LIMIT_SECONDS = 60
HANG_UP_SECONDS = 1.0  # what `Reply` promises
SHORT_SECONDS = 0.2  # instead of minutes, where a timeout is tested
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
ROOT = Path(__file__).parents[2]


def http(document: Any, status: int = 200, *headers: str) -> bytes:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    fixed = [f"content-length: {len(body)}", "content-type: application/json", "connection: close"]
    return "\r\n".join([f"HTTP/1.1 {status} Because", *fixed, *headers]).encode() + b"\r\n\r\n" + body


def problem(status: int, message: str, *headers: str) -> bytes:
    kind = "overloaded_error" if status == 529 else "some_error"
    return http({"type": "error", "error": {"type": kind, "message": message}}, status, *headers)


# As OpenAI's servers write


def event(**fields: Any) -> bytes:
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs", **fields}
    return b"data: " + orjson.dumps(document) + b"\n\n"


def delta(finish: str | None = None, **fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


COUNTS = {
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
COUNTED = Usage(12, 3, cached_tokens=4, reasoning_tokens=2)
HI = delta(role="assistant", content="Hi")
END = delta("stop")
OPENAI_STREAM = [STREAM, HI, delta(content=" there"), END, event(choices=[], usage=COUNTS), DONE]
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi there"}, "finish_reason": "stop"}
OPENAI_ANSWER = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "choices": [CHOICE], "usage": COUNTS}

# As Anthropic's write

CLAUDES_COUNTS = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}
CLAUDES_HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "theirs", "usage": CLAUDES_COUNTS}
CLAUDES_ANSWER = {**CLAUDES_HEAD, "content": [{"type": "text", "text": "Hi there"}], "stop_reason": "end_turn"}
CLAUDE_COUNTED = Usage(8, 2, cached_tokens=3)


def claudes(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def claudes_text(text: str) -> bytes:
    return claudes("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


CLAUDES_START = [
    STREAM,
    claudes("message_start", message={**CLAUDES_HEAD, "content": [], "stop_reason": None}),
    claudes("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    claudes_text("Hi"),
]
CLAUDES_STREAM = [
    *CLAUDES_START,
    claudes_text(" there"),
    claudes("content_block_stop", index=0),
    claudes("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
    claudes("message_stop"),
]
PROVIDERS = pytest.mark.parametrize("model", [CLAUDE, OPENAI])


def answer_of(model: str) -> bytes:
    return http(CLAUDES_ANSWER if model == CLAUDE else OPENAI_ANSWER)


def stream_of(model: str) -> list[bytes]:
    return CLAUDES_STREAM if model == CLAUDE else OPENAI_STREAM


def counted_by(model: str) -> Usage:
    return CLAUDE_COUNTED if model == CLAUDE else COUNTED


# Answers


@PROVIDERS
def test_an_answer_comes_as_the_protocol_has_it_under_the_catalogues_name(model: str) -> None:
    document, usage = run(_answered(model, Call(BODY), answer_of(model)))

    assert document["object"] == "chat.completion"
    assert document["model"] == "ours"
    assert document["choices"][0]["message"] == {"role": "assistant", "content": "Hi there"}
    assert document["choices"][0]["finish_reason"] == "stop"
    assert usage == counted_by(model)
    assert document["usage"]["prompt_tokens"] == counted_by(model).prompt_tokens


@PROVIDERS
@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream_comes_in_events_with_the_counts_at_the_end_when_asked(model: str, include_usage: bool) -> None:
    events, usage = run(_streamed(model, Call(BODY, stream=True, include_usage=include_usage), *stream_of(model)))

    assert {document["model"] for document in events} == {"ours"}
    texts = [c["delta"].get("content") or "" for document in events for c in document["choices"]]
    assert "".join(texts) == "Hi there"
    assert [d["choices"][0]["finish_reason"] for d in events if d["choices"]][-1] == "stop"
    assert usage == counted_by(model)
    counts = [document["usage"] for document in events if "usage" in document]
    assert len(counts) == include_usage
    assert all("cost" not in count for count in counts)


@PROVIDERS
def test_a_tool_call_is_answered_with_null_as_content(model: str) -> None:
    if model == CLAUDE:
        used = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
        answer = http({**CLAUDES_ANSWER, "content": [used], "stop_reason": "tool_use"})
    else:
        called = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [called]}
        answer = http({**OPENAI_ANSWER, "choices": [{**CHOICE, "message": message, "finish_reason": "tool_calls"}]})
    document, _ = run(_answered(model, Call({**BODY, "tools": [TOOL]}), answer))

    choice = document["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}


def test_a_text_is_continued_by_a_model_that_chats() -> None:
    call = Call({"prompt": "Once", "max_tokens": 5}, operation=Operation.COMPLETION)
    document, usage = run(_answered(CLAUDE, call, answer_of(CLAUDE)))

    assert document["object"] == "text_completion"
    assert document["choices"] == [{"index": 0, "text": "Hi there", "finish_reason": "stop", "logprobs": None}]
    assert usage == CLAUDE_COUNTED


def test_a_continued_text_streams() -> None:
    call = Call({"prompt": ["Once"], "max_tokens": 5}, stream=True, operation=Operation.COMPLETION)
    events, usage = run(_streamed(CLAUDE, call, *CLAUDES_STREAM))

    assert "".join(document["choices"][0]["text"] for document in events) == "Hi there"
    assert usage == CLAUDE_COUNTED


@pytest.mark.parametrize("prompt", [["one", "two"], [1, 2, 3], None])
def test_only_one_text_is_continued_at_a_time(prompt: Any) -> None:
    call = Call({"prompt": prompt}, operation=Operation.COMPLETION)
    error = run(_refusal(EngineRefused, CLAUDE, call))

    assert (error.status, error.param) == (400, "prompt")


def test_tokens_are_not_guessed() -> None:
    error = run(_refusal(EngineRefused, CLAUDE, Call({"messages": []}, operation=Operation.COUNT)))

    assert error.status == 404


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_come_in_the_encoding_that_was_asked_for(encoding: str) -> None:
    vectors = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}]}
    answer = http({**vectors, "model": "theirs", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    call = Call({"input": ["a"], "encoding_format": encoding}, operation=Operation.EMBEDDING)
    document, usage = run(_answered("openai/text-embedding-3-small", call, answer))

    vector = document["data"][0]["embedding"]
    assert (vector if encoding == "float" else list(struct.unpack("<2f", base64.b64decode(vector)))) == [0.5, -2.0]
    assert usage == Usage(3, 0)


@pytest.mark.parametrize("stream", [True, False])
def test_counts_that_the_provider_did_not_give_are_unknown(stream: bool) -> None:
    """LiteLLM would count by itself, or write zeros."""
    if stream:
        call = Call(BODY, stream=True, include_usage=True)
        events, usage = run(_streamed(OPENAI, call, STREAM, HI, END, DONE))
        assert not any("usage" in document for document in events)
    else:
        uncounted = {**OPENAI_ANSWER, "usage": None}
        document, usage = run(_answered(OPENAI, Call(BODY), http(uncounted)))
        assert "usage" not in document
    assert usage is None


# What is sent


def test_fields_tools_images_and_schemas_reach_the_provider_in_its_own_words() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    body = {
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": parts}],
        "max_completion_tokens": 9,
        "stop": ["\n\n"],
        "tools": [TOOL],
        "top_k": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
    }
    sent = run(_sent(CLAUDE, Call(body)))

    assert sent.request_line.startswith("POST /v1/messages ")
    assert sent.headers["x-api-key"] == KEY
    assert sent.json["model"] == "claude-sonnet-4-5"
    assert (sent.json["max_tokens"], sent.json["top_k"], sent.json["stop_sequences"]) == (9, 3, ["\n\n"])
    assert sent.json["system"][0]["text"] == "Be brief"
    assert sent.json["messages"][0]["content"][1]["source"]["data"] == PIXEL.partition(",")[2]
    assert sent.json["tools"][0]["name"] == "f"
    assert "integer" in str(sent.json)


def test_a_field_that_nobody_knows_reaches_a_server_that_speaks_openais_protocol() -> None:
    sent = run(_sent(OPENAI, Call({**BODY, "mirostat": 2, "metadata": {"a": "b"}})))

    assert (sent.json["mirostat"], sent.json["metadata"], sent.json["temperature"]) == (2, {"a": "b"}, 0.5)


@pytest.mark.parametrize("field", ["mirostat", "frequency_penalty"])
def test_a_field_that_the_provider_does_not_have_is_refused_and_not_dropped(field: str) -> None:
    error = run(_refusal(EngineRefused, CLAUDE, Call({**BODY, field: 0.5})))

    assert error.status == 400
    assert field in error.message
    assert "litellm" not in error.message.lower()


def test_fields_that_change_nothing_are_left_out_where_a_provider_does_not_have_them() -> None:
    idle = {"n": 1, "frequency_penalty": 0, "logprobs": False, "metadata": {"a": "b"}, "store": True, "seed": None}
    sent = run(_sent(CLAUDE, Call({**BODY, **idle})))

    assert not set(idle) & set(sent.json)


SETTINGS_OF_LITELLM: Mapping[str, Any] = {
    "api_base": "http://elsewhere.invalid",
    "api_key": "sk-clients",
    "aws_bedrock_runtime_endpoint": "http://elsewhere.invalid",
    "base_url": "http://elsewhere.invalid",
    "custom_llm_provider": "openai",
    "extra_body": {"a": 1},
    "extra_headers": {"x-a": "b"},
    "fallbacks": ["openai/x"],
    "mock_response": "made up",
    "num_retries": 3,
    "timeout": 0.001,
}


@PROVIDERS
@pytest.mark.parametrize("name", sorted(SETTINGS_OF_LITELLM))
def test_no_client_can_set_what_is_litellms(name: str, model: str) -> None:
    """Or the operator's key would go where the client says."""
    call = Call({**BODY, name: SETTINGS_OF_LITELLM[name]})
    if model == CLAUDE:
        assert run(_refusal(EngineRefused, model, call)).param == name
    else:
        sent = run(_sent(model, call))
        assert sent.headers["authorization"] == f"Bearer {KEY}"
        assert sent.json[name] == SETTINGS_OF_LITELLM[name]  # only in the body, where it means nothing


def test_headers_of_the_call_are_sent() -> None:
    assert run(_sent(OPENAI, Call(BODY, headers={"x-trace": "7"}))).headers["x-trace"] == "7"


# Faults


@PROVIDERS
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, EngineRefused),
        (401, EngineUnavailable),
        (403, EngineUnavailable),
        (404, EngineRefused),
        (422, EngineRefused),
        (429, EngineBusy),
        (500, EngineUnavailable),
        (502, EngineUnavailable),
        (503, EngineBusy),
        (529, EngineBusy),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_status_becomes_the_error_that_says_what_may_be_done(
    model: str, status: int, kind: type[EngineError], stream: bool
) -> None:
    answer = problem(status, f"the field is wrong, says 127.0.0.1 to {KEY}", "retry-after: 7")
    error = run(_failure(kind, model, Call(BODY, stream=stream), answer))

    assert type(error) is kind
    assert KEY not in error.message
    assert "127.0.0.1" not in error.message
    assert "litellm" not in error.message.lower()
    if isinstance(error, EngineBusy):
        assert error.retry_after_seconds == 7
    if isinstance(error, EngineRefused):
        assert error.status == status
        assert error.message.startswith("the field is wrong, says [hidden] to ")


@PROVIDERS
def test_a_prompt_that_does_not_fit_is_told_apart(model: str) -> None:
    answer = problem(400, "prompt is too long: 210000 tokens > 200000 maximum")
    error = run(_failure(ContextTooLong, model, Call(BODY), answer))

    assert error.message == "prompt is too long: 210000 tokens > 200000 maximum"


@PROVIDERS
def test_nobody_there_is_unavailable(model: str) -> None:
    async def asked() -> None:
        async with started(model, f"http://127.0.0.1:{unused_port()}") as engine:
            with pytest.raises(EngineUnavailable, match="could not be reached"):
                await engine.begin(Call(BODY))

    run(asked())


@PROVIDERS
@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}'])
def test_an_answer_that_is_none_is_unavailable(model: str, body: bytes) -> None:
    run(_failure(EngineUnavailable, model, Call(BODY), http(body)))


@PROVIDERS
def test_a_stream_that_ends_before_its_first_word_is_unavailable(model: str) -> None:
    """LiteLLM makes an ending for it, as if the model had nothing to say."""
    run(_failure(EngineUnavailable, model, Call(BODY, stream=True), STREAM))


@PROVIDERS
@pytest.mark.parametrize("last", [b"", b"error"])
def test_a_stream_that_breaks_off_is_cut(model: str, last: bytes) -> None:
    start = CLAUDES_START if model == CLAUDE else [STREAM, HI]
    broken = {"type": "overloaded_error", "message": f"broken at {KEY}"}
    if last:
        last = claudes("error", error=broken) if model == CLAUDE else event(error=broken)

    async def asked() -> EngineError:
        async with answering(model, *start, last) as (engine, _):
            reply = await engine.begin(Call(BODY, stream=True))
            try:
                assert b"Hi" in reply.first
                with pytest.raises(EngineCut) as caught:
                    await _rest(reply)
                return caught.value
            finally:
                await reply.close()

    assert KEY not in run(asked()).message


@PROVIDERS
@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.COMPLETION])
def test_closing_a_reply_stops_the_provider(model: str, operation: Operation) -> None:
    start: list[bytes] = CLAUDES_START
    if model == OPENAI:
        choice = {"index": 0, "finish_reason": None, "text": "Hi", "delta": {"role": "assistant", "content": "Hi"}}
        start = [STREAM, event(choices=[choice])]

    async def asked() -> None:
        async with answering(model, *start, asyncio.Event()) as (engine, provider):
            body = {**BODY, "prompt": "Once"} if operation is Operation.COMPLETION else BODY
            body = {name: value for name, value in body.items() if operation is Operation.CHAT or name != "messages"}
            reply = await engine.begin(Call(body, stream=True, operation=operation))
            await reply.close()
            async with asyncio.timeout(HANG_UP_SECONDS):
                await provider.hung_up.wait()

    run(asked())


@PROVIDERS
@pytest.mark.parametrize("stream", [True, False])
def test_a_cancelled_call_stops_the_provider(model: str, stream: bool) -> None:
    async def asked() -> None:
        async with answering(model, asyncio.Event()) as (engine, provider):
            calling = asyncio.create_task(engine.begin(Call(BODY, stream=stream)))
            await provider.until_asked()
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            async with asyncio.timeout(HANG_UP_SECONDS):
                await provider.hung_up.wait()

    run(asked())


def test_a_provider_that_never_begins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "FIRST_CHUNK_TIMEOUT_SECONDS", SHORT_SECONDS)
    run(_failure(EngineUnavailable, CLAUDE, Call(BODY, stream=True), STREAM, asyncio.Event()))


def test_a_provider_that_falls_silent_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "IDLE_TIMEOUT_SECONDS", SHORT_SECONDS)

    async def asked() -> None:
        async with answering(CLAUDE, *CLAUDES_START, asyncio.Event()) as (engine, _):
            reply = await engine.begin(Call(BODY, stream=True))
            with pytest.raises(EngineCut):
                await _rest(reply)
            await reply.close()

    run(asked())


def test_a_call_is_made_once() -> None:
    """Retrying is the router's, which may ask another model."""

    async def asked() -> int:
        async with answering(CLAUDE, problem(500, "oops")) as (engine, provider):
            with pytest.raises(EngineUnavailable):
                await engine.begin(Call(BODY))
            return len(provider.requests)

    assert run(asked()) == 1


# Starting


def test_an_unknown_provider_fails_with_the_remedy() -> None:
    async def health() -> tuple[EngineState, str]:
        engine = LiteLLMEngine(name="ours", model="nonsense/x")
        await engine.start()
        state = await _settled(engine)
        with pytest.raises(EngineUnavailable):
            await engine.begin(Call(BODY))
        await engine.stop()
        return state, engine.health().detail

    state, _ = run(health())
    assert state is EngineState.FAILED


def test_without_litellm_the_engine_fails_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)  # what Python itself has for "cannot be imported"

    async def detail() -> str:
        engine = LiteLLMEngine(name="ours", model=CLAUDE)
        await engine.start()
        assert engine.health().state is EngineState.STARTING
        assert await _settled(engine) is EngineState.FAILED
        detail = engine.health().detail
        await engine.stop()
        return detail

    assert run(detail()) == "LiteLLM is not installed; pip install 'pointsman[litellm]'"


def test_an_engine_stops_twice_and_while_it_starts() -> None:
    async def stopped() -> None:
        engine = LiteLLMEngine(name="ours", model=CLAUDE)
        await engine.stop()
        await engine.start()
        await engine.stop()
        await engine.stop()
        assert engine.health().state is EngineState.STOPPED

    run(stopped())


def test_an_engine_that_stops_leaves_another_ones_connections() -> None:
    async def asked() -> None:
        async with answering(CLAUDE, answer_of(CLAUDE)) as (engine, provider):
            async with started(CLAUDE, provider.base_url) as other:
                await (await other.begin(Call(BODY))).close()
            await (await engine.begin(Call(BODY))).close()
            assert len(provider.requests) == 2

    run(asked())


IMPORTS_NOTHING = """
import sys
import gateway.app
from models.engines import ENGINES
from models.litellm import LiteLLMEngine, price_of
LiteLLMEngine(name="ours", model="anthropic/claude-sonnet-4-5")
assert price_of("anthropic/claude-sonnet-4-5") is not None
print([name for name in ("litellm", "boto3", "httpx", "tiktoken") if name in sys.modules])
"""


def test_litellm_is_not_imported_until_an_engine_starts() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS_NOTHING], capture_output=True, text=True, cwd=ROOT, timeout=60)

    assert done.stdout.strip() == "[]", done.stderr


STAYS_HOME = """
import asyncio, os, sys
base_url, reached = sys.argv[1], set()
def hear(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        reached.add(arguments[1][:2])
    if event == "socket.getaddrinfo":
        reached.add(arguments[:2])
sys.addaudithook(hear)
from models.engine import Call, EngineState
from models.litellm import LiteLLMEngine
async def main():
    engine = LiteLLMEngine(name="ours", model="anthropic/claude-sonnet-4-5", base_url=base_url, api_key="sk-canary")
    await engine.start()
    while engine.health().state is EngineState.STARTING:
        await asyncio.sleep(0.01)
    reply = await engine.begin(Call({"messages": [{"role": "user", "content": "a secret prompt"}]}))
    await reply.close()
    await engine.stop()
asyncio.run(main())
print(sorted(reached), os.environ.get("FROM_A_FILE"))
"""


def test_litellm_reaches_only_the_provider_and_writes_nothing(tmp_path: Path) -> None:
    """Poisoned addresses for all that LiteLLM likes to fetch: a price map, header names, a blog, a .env file."""

    async def played() -> tuple[str, str, int, int]:
        async with FakeUpstream(answer_of(CLAUDE)) as provider, FakeUpstream(http({})) as poison:
            url = poison.base_url
            names = ("MODEL_COST_MAP_URL", "ANTHROPIC_BETA_HEADERS_URL", "BLOG_POSTS_URL", "AUTOROUTER_PRESETS_URL")
            (tmp_path / ".env").write_text("FROM_A_FILE=read\n")
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_LOG": "DEBUG"}
            environment |= {f"LITELLM_{name}": url for name in names}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                STAYS_HOME,
                f"http://127.0.0.1:{provider.port}",
                cwd=tmp_path,
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            return out.decode(), err.decode(), provider.port, len(poison.requests)

    out, err, port, poisoned = run(played())

    assert out.splitlines()[-1] == f"[('127.0.0.1', {port})] None", err
    assert poisoned == 0
    assert "secret prompt" not in out + err


# Prices


def test_prices_are_those_of_the_map_per_million_tokens() -> None:
    price = price_of(CLAUDE)

    assert price == Price(input_usd=Decimal(3), output_usd=Decimal(15), cached_input_usd=Decimal("0.3"))
    assert str(price.input_usd) == "3" if price else False


def test_a_price_is_found_under_the_providers_spelling() -> None:
    """`vertex_ai/gemini-2.5-pro` is listed as `gemini-2.5-pro` of `vertex_ai-language-models`."""
    price = price_of("vertex_ai/gemini-2.5-pro")

    assert price is not None
    assert price.input_usd == Decimal("1.25")


@pytest.mark.parametrize("name", ["anthropic/nobody", "nonsense/claude-sonnet-4-5", "ollama/llama2", "", "openai/"])
def test_an_unknown_price_stays_unknown(name: str) -> None:
    """Also one that is listed as nothing: a model on one's own machine is not free."""
    assert price_of(name) is None


# What the tests are made of


def run(test: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(TEST_LIMIT_SECONDS):
            return await test

    return asyncio.run(limited())


async def _settled(engine: LiteLLMEngine) -> EngineState:
    assert engine._starting is not None
    await engine._starting
    return engine.health().state


@asynccontextmanager
async def started(model: str, base_url: str) -> AsyncIterator[LiteLLMEngine]:
    engine = LiteLLMEngine(name="ours", model=model, base_url=base_url, api_key=KEY)
    await engine.start()
    assert await _settled(engine) is EngineState.READY, engine.health()
    try:
        yield engine
    finally:
        await engine.stop()


@asynccontextmanager
async def answering(model: str, *steps: Step) -> AsyncIterator[tuple[LiteLLMEngine, FakeUpstream]]:
    async with FakeUpstream(*steps) as provider:
        base_url = f"http://127.0.0.1:{provider.port}" if model == CLAUDE else provider.base_url
        async with started(model, base_url) as engine:
            yield engine, provider


async def _rest(reply: Reply) -> list[bytes]:
    blocks = []
    while block := await reply.more():
        blocks.append(block)
    return blocks


async def _answered(model: str, call: Call, answer: bytes) -> tuple[dict[str, Any], Usage | None]:
    async with answering(model, answer) as (engine, _):
        reply = await engine.begin(call)
        assert await _rest(reply) == []
        await reply.close()
        document: dict[str, Any] = orjson.loads(reply.first)
        return document, reply.usage


async def _streamed(model: str, call: Call, *steps: Step) -> tuple[list[dict[str, Any]], Usage | None]:
    async with answering(model, *steps) as (engine, _):
        reply = await engine.begin(call)
        blocks = [reply.first, *await _rest(reply)]
        await reply.close()
        events = b"".join(blocks).split(b"\n\n")
        assert events.pop() == b""
        return [orjson.loads(event.removeprefix(b"data: ")) for event in events], reply.usage


async def _sent(model: str, call: Call) -> Received:
    async with answering(model, answer_of(model)) as (engine, provider):
        await (await engine.begin(call)).close()
        return provider.requests[0]


E_ = TypeVar("E_", bound=EngineError)


async def _failure(kind: type[E_], model: str, call: Call, *steps: Step) -> E_:
    async with answering(model, *steps) as (engine, _):
        with pytest.raises(kind) as caught:
            await engine.begin(call)
        return caught.value


async def _refusal(kind: type[E_], model: str, call: Call) -> E_:
    """Of a call that never reaches the provider."""
    async with answering(model, answer_of(model)) as (engine, provider):
        with pytest.raises(kind) as caught:
            await engine.begin(call)
        assert provider.requests == []
        return caught.value
