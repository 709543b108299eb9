"""The HTTP engine against a server that writes any bytes: what is parsed, and that every fault has its one meaning."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import sse, upstream
from models.engine import (
    Call,
    ContextTooLong,
    EngineBusy,
    EngineCut,
    EngineError,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Usage,
)
from models.upstream import OpenAIUpstream
from tests.fakes import FakeUpstream, Received, Step, unused_port

T = TypeVar("T")

KEY = "sk-canary-Zm9vYmFy"
NAME = "catalogue-model"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5, "top_k": 3}
STAY = 60.0  # the server keeps the connection open for longer than any test lasts
TEST_LIMIT_SECONDS = 20
HANG_UP_SECONDS = 1.0  # what `Engine` promises
SHORT_SECONDS = 0.2  # instead of minutes, where a timeout is tested
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status} Because", f"content-length: {len(body)}", *headers])
    return head.encode() + b"\r\n\r\n" + body


def problem(status: int, **error: Any) -> bytes:
    return http(status, orjson.dumps({"error": error}), "content-type: application/json")


def event(document: Any) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def delta(text: str, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **fields}


def completion(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], **fields}


def pieces(whole: bytes, size_bytes: int) -> list[bytes]:
    return [whole[at : at + size_bytes] for at in range(0, len(whole), size_bytes)]


HI = event(delta("Hi"))
ANSWER = http(200, orjson.dumps(completion()))
TIMINGS = {"cache_n": 100, "prompt_n": 20, "prompt_ms": 200.5, "predicted_n": 7, "predicted_ms": 1000}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


@dataclass(frozen=True)
class Chunk:
    """One event of a stream, or a whole answer. The counts are the reply's, once it has come to its end."""

    data: dict[str, Any]
    usage: Usage | None = None
    engine_seconds: float | None = None


# What is sent


@pytest.mark.parametrize("stream", [True, False])
def test_the_body_is_passed_on_under_the_servers_own_model_name(stream: bool) -> None:
    sent = run(_sent(Call({**BODY, "stream": not stream}, stream)))

    assert sent.request_line == "POST /v1/chat/completions HTTP/1.1"
    assert sent.headers["content-type"] == "application/json"
    options = {"stream_options": {"include_usage": True}} if stream else {}
    assert sent.json == {**BODY, "model": "served-model", "stream": stream, **options}


def test_a_stream_always_counts_and_keeps_the_callers_other_options() -> None:
    options = {"include_usage": False, "include_obfuscation": False}
    sent = run(_sent(Call({**BODY, "stream_options": options}, True)))

    assert sent.json["stream_options"] == {"include_usage": True, "include_obfuscation": False}


def test_the_extra_body_is_the_operators_last_word() -> None:
    sent = run(_sent(Call({**BODY, "timings_per_token": False}, True), extra_body={"timings_per_token": True}))

    assert sent.json["timings_per_token"] is True


def test_the_key_is_sent_and_only_when_there_is_one() -> None:
    assert run(_sent(Call(BODY, False))).headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in run(_sent(Call(BODY, False), api_key=None)).headers


def test_the_callers_body_is_not_changed() -> None:
    body: dict[str, Any] = {"messages": [], "stream_options": {}}
    run(_sent(Call(body, True)))

    assert body == {"messages": [], "stream_options": {}}


def test_a_body_too_deep_to_write_is_refused_before_it_is_sent() -> None:
    """The gateway reads more levels of JSON than it can write."""
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}

    async def test() -> None:
        async with FakeUpstream(ANSWER) as server, _engine(server) as engine:
            with pytest.raises(EngineRefused, match="nested") as refused:
                await _chunks(engine, Call({**BODY, "tools": [deep]}, False))
            assert refused.value.status == 400
            assert server.requests == []

    run(test())


def test_somebody_elses_server_is_ready_and_needs_no_start() -> None:
    async def test() -> None:
        async with FakeUpstream() as server, _engine(server) as engine:
            await engine.start()
            assert engine.health().state is EngineState.READY
            await engine.stop()
            await engine.stop()
            assert server.requests == []

    run(test())


# What is parsed


@pytest.mark.parametrize("head", [b"", b"content-encoding: identity\r\n"])
def test_a_whole_answer_is_one_chunk(head: bytes) -> None:
    document = completion(usage=USAGE, system_fingerprint="b1", unknown={"kept": True})
    reply = http(200, orjson.dumps(document)).replace(b"\r\n\r\n", b"\r\n" + head + b"\r\n", 1)

    assert run(_answered([reply], stream=False)) == [Chunk(document, Usage(12, 3))]


def test_a_whole_answer_may_come_inpieces() -> None:
    assert run(_answered(pieces(ANSWER, 7), stream=False)) == [Chunk(completion())]


@pytest.mark.parametrize("size_bytes", [1, 7, 50, 10_000])
def test_a_stream_is_a_chunk_per_event_however_it_is_cut(size_bytes: int) -> None:
    """Among others in the middle of a character, and of a CRLF."""
    counts = {**delta(""), "choices": [], "usage": USAGE}
    documents = [delta("Gleis \N{STEAM LOCOMOTIVE}"), delta("\N{EURO SIGN}"), counts]
    events = [b"data: " + orjson.dumps(document) + b"\r\n\r\n" for document in documents]
    chunks = run(_answered([STREAM, *pieces(b": hello\n\n" + b"".join(events) + DONE, size_bytes)], stream=True))

    assert [chunk.data for chunk in chunks] == documents[:2]
    assert {chunk.usage for chunk in chunks} == {Usage(12, 3)}


def test_a_block_is_there_before_the_next_one_is_written() -> None:
    async def test() -> None:
        more = asyncio.Event()
        async with FakeUpstream(STREAM, HI, more, HI, DONE) as server, _engine(server) as engine:
            reply = await engine.begin(Call(BODY, True))
            assert _read(reply.first, stream=True) == [delta("Hi")]
            more.set()
            assert _read(await reply.more(), stream=True) == [delta("Hi")]
            assert await reply.more() == b""
            await reply.close()

    run(test())


def test_a_chunked_stream_ends_at_done_and_nothing_after_it_is_read() -> None:
    written = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (HI, DONE, b"data: garbage\n\n"))

    assert run(_answered([CHUNKED + written, STAY], stream=True)) == [Chunk(delta("Hi"))]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fields", "usage", "engine_seconds"),
    [
        ({}, None, None),
        ({"usage": None}, None, None),
        ({"usage": USAGE}, Usage(12, 3), None),
        ({"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 8}}}, Usage(12, 3, 8), None),
        ({"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": None}}}, Usage(12, 3), None),
        ({"usage": {**USAGE, "prompt_tokens_details": None}}, Usage(12, 3), None),
        ({"usage": {**USAGE, "prompt_tokens_details": ["cached_tokens"]}}, Usage(12, 3), None),
        ({"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 99}}}, Usage(12, 3, 12), None),
        ({"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": -1}}}, Usage(12, 3), None),
        ({"usage": {"prompt_tokens": 12, "completion_tokens": 0}}, Usage(12, 0), None),
        ({"usage": {"prompt_tokens": None, "completion_tokens": None}}, None, None),
        ({"usage": {"prompt_tokens": 12, "completion_tokens": None}}, None, None),
        ({"usage": {"completion_tokens": 3}}, None, None),
        ({"usage": {"prompt_tokens": "12", "completion_tokens": 3}}, None, None),
        ({"usage": {"prompt_tokens": True, "completion_tokens": 3}}, None, None),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 3}}, None, None),
        ({"usage": {"prompt_tokens": 1.5, "completion_tokens": 3}}, None, None),
        ({"usage": []}, None, None),
        ({"usage": "12"}, None, None),
        ({"timings": TIMINGS}, Usage(120, 7, 100), 1.2005),
        ({"timings": TIMINGS, "usage": USAGE}, Usage(12, 3), 1.2005),
        ({"timings": TIMINGS, "usage": {"prompt_tokens": None}}, Usage(120, 7, 100), 1.2005),
        ({"timings": {**TIMINGS, "prompt_ms": 0, "predicted_ms": 0}}, Usage(120, 7, 100), 0.0),
        ({"timings": {**TIMINGS, "prompt_ms": None}}, Usage(120, 7, 100), None),
        ({"timings": {**TIMINGS, "prompt_ms": "fast"}}, Usage(120, 7, 100), None),
        ({"timings": {**TIMINGS, "predicted_ms": -1}}, Usage(120, 7, 100), None),
        ({"timings": {**TIMINGS, "predicted_n": None}}, None, 1.2005),
        ({"timings": {**TIMINGS, "cache_n": []}}, None, 1.2005),
        ({"timings": {**TIMINGS, "prompt_n": -1}}, None, 1.2005),
        ({"timings": {"prompt_n": 20, "predicted_n": 7}}, None, None),
        ({"timings": {}}, None, None),
        ({"timings": None}, None, None),
        ({"timings": [1, 2]}, None, None),
        ({"timings": "none"}, None, None),
    ],
)
def test_counts_are_read_and_what_is_no_count_is_unknown(
    fields: dict[str, Any], usage: Usage | None, engine_seconds: float | None, stream: bool
) -> None:
    document = delta("Hi", **fields) if stream else completion(**fields)
    reply = STREAM + event(document) + DONE if stream else http(200, orjson.dumps(document))
    (chunk,) = run(_answered([reply], stream=stream))

    assert (chunk.usage, chunk.engine_seconds) == (usage, engine_seconds)
    hidden = {"timings", "usage"} if stream else {"timings"}
    assert chunk.data == {key: value for key, value in document.items() if key not in hidden}


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_of_null_is_no_error(stream: bool) -> None:
    document = {**(delta("Hi") if stream else completion()), "error": None}
    reply = STREAM + event(document) + DONE if stream else http(200, orjson.dumps(document))

    assert run(_answered([reply], stream=stream)) == [Chunk(document)]


# What goes wrong


@dataclass(frozen=True)
class Fault:
    """`then` is written when the first chunk has been read, `said` is a part of the message.

    `stream` None: streamed or not makes no difference.
    """

    name: str
    reply: tuple[Step, ...]
    error: type[EngineError]
    stream: bool | None = None
    then: tuple[Step, ...] = ()
    chunks: int = 0
    said: str = ""
    status: int | None = None
    code: str | None = None
    param: str | None = None
    retry_after_seconds: float | None = None


OPENAI_TOO_LONG = problem(400, code="context_length_exceeded", param="messages", message="Shorten it.")
LLAMACPP_TOO_LONG = problem(
    400,
    code=400,
    type="exceed_context_size_error",
    message="request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    n_prompt_tokens=5000,
    n_ctx=4096,
)
VLLM_WORDS = "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens."
VLLM_TOO_LONG = problem(400, code=400, type="BadRequestError", param="input_tokens", message=VLLM_WORDS)
OLDER_VLLM_TOO_LONG = http(400, orjson.dumps({"object": "error", "message": VLLM_WORDS, "param": None, "code": 400}))
VLLM_V1_TOO_LONG = problem(
    400, code=400, message="The decoder prompt (length 5000) is longer than the maximum model length of 4096."
)
TOO_LONG_TOLD: dict[str, Any] = {"status": 400, "code": "context_length_exceeded", "param": "messages"}
WRONG_FIELD = {"message": "top_p is above 1", "type": "invalid_request_error", "param": "top_p", "code": "bad_value"}
WRONG_FIELD_TOLD: dict[str, Any] = {"status": 400, "code": "bad_value", "param": "top_p", "said": "top_p is above 1"}
CHUNKED_HI = CHUNKED + b"%x\r\n%s\r\n" % (len(HI), HI)
REPORTED = event({"error": {"message": "the GPU fell off the bus", "code": 500}})
FAULTS = [
    # before the headers end
    Fault("closes at once", (), EngineUnavailable),
    Fault("closes inside the headers", (b"HTTP/1.1 200 OK\r\ncontent-le",), EngineUnavailable),
    Fault("not HTTP", (b"220 smtp.example.com ESMTP\r\n\r\n",), EngineUnavailable),
    Fault("bad status line", (b"HTTP/1.1 OK 200\r\n\r\n",), EngineUnavailable),
    Fault("bad header", (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",), EngineUnavailable),
    Fault("endless header", (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000 + b"\r\n\r\n",), EngineUnavailable),
    Fault("bad length", (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}",), EngineUnavailable),
    Fault("TLS", (b"\x15\x03\x03\x00\x02\x02\x28",), EngineUnavailable),
    # statuses that are nobody's fault but the engine's
    Fault("500 with HTML", (http(500, b"<html>oops</html>", "content-type: text/html"),), EngineUnavailable),
    Fault("500 with an error", (problem(500, message="a traceback"),), EngineUnavailable, said="the engine failed"),
    Fault("502 empty", (http(502),), EngineUnavailable),
    Fault("504", (http(504, b"upstream timed out"),), EngineUnavailable),
    Fault("500 whose body breaks off", (http(500, b"x" * 9)[:-5],), EngineUnavailable),
    Fault("401", (problem(401, message=f"wrong key {KEY}"),), EngineUnavailable, said="credentials"),
    Fault("403", (http(403, b"no"),), EngineUnavailable, said="credentials"),
    Fault("204", (b"HTTP/1.1 204 No Content\r\n\r\n",), EngineUnavailable),
    Fault("302", (http(302, b"", "location: /v1/elsewhere"),), EngineUnavailable),
    Fault("307", (http(307, b"", "location: /v1/elsewhere"),), EngineUnavailable),
    # statuses that ask for patience
    Fault("429", (http(429, b"", "retry-after: 7"),), EngineBusy, retry_after_seconds=7.0),
    Fault("429 without a time", (http(429),), EngineBusy),
    Fault("429 with a date", (http(429, b"", "retry-after: Mon, 23 Nov 2026 22:00:00 GMT"),), EngineBusy),
    Fault("429 with a past time", (http(429, b"", "retry-after: -1"),), EngineBusy),
    Fault("429 for ever", (http(429, b"", "retry-after: inf"),), EngineBusy),
    Fault("429 with no number", (http(429, b"", "retry-after: nan"),), EngineBusy),
    Fault("503", (http(503, b"loading", "retry-after: 0.5"),), EngineBusy, retry_after_seconds=0.5),
    Fault(
        "503 whose body breaks off", (http(503, b"x" * 9, "retry-after: 1")[:-5],), EngineBusy, retry_after_seconds=1.0
    ),
    # statuses that say the request is wrong
    Fault("400", (problem(400, **WRONG_FIELD),), EngineRefused, **WRONG_FIELD_TOLD),
    Fault("400 in pieces", tuple(pieces(problem(400, **WRONG_FIELD), 50)), EngineRefused, **WRONG_FIELD_TOLD),
    Fault("422 with a number as code", (problem(422, message="no", code=422),), EngineRefused, said="no", status=422),
    Fault("400 with odd types", (problem(400, message=[1], code=["x"], type={}, param=2),), EngineRefused, status=400),
    Fault("400 with a string", (http(400, b'{"error": "not so"}'),), EngineRefused, said="not so", status=400),
    Fault("400 with HTML", (http(400, b"<html>"),), EngineRefused, said="refused", status=400),
    Fault("400 with an array", (http(400, b"[1]"),), EngineRefused, said="refused", status=400),
    Fault("400 empty", (http(400),), EngineRefused, said="refused", status=400),
    Fault("413 larger than is read", (http(413, b"x" * 200_000),), EngineRefused, said="refused", status=413),
    Fault("400 whose body breaks off", (problem(400, **WRONG_FIELD)[:-30],), EngineUnavailable),
    Fault("too long for OpenAI", (OPENAI_TOO_LONG,), ContextTooLong, said="Shorten it", **TOO_LONG_TOLD),
    Fault("too long for llama.cpp", (LLAMACPP_TOO_LONG,), ContextTooLong, said="available context", **TOO_LONG_TOLD),
    Fault("too long for vLLM", (VLLM_TOO_LONG,), ContextTooLong, said="maximum context", **TOO_LONG_TOLD),
    Fault("too long for vLLM's V1", (VLLM_V1_TOO_LONG,), ContextTooLong, said="maximum model", **TOO_LONG_TOLD),
    Fault("too long for older vLLM", (OLDER_VLLM_TOO_LONG,), ContextTooLong, said="maximum context", **TOO_LONG_TOLD),
    # 200, but no answer
    Fault("200 empty", (http(200),), EngineUnavailable),
    Fault("200 with HTML", (http(200, b"<html>welcome</html>"),), EngineUnavailable),
    Fault("200 with an array", (http(200, b"[]"),), EngineUnavailable, stream=False),
    Fault("200 with a number", (http(200, b"1"),), EngineUnavailable, stream=False),
    Fault("200 with half a document", (http(200, b'{"choices": ['),), EngineUnavailable, stream=False),
    Fault("200 with other JSON", (http(200, b'{"status": "ok"}'),), EngineUnavailable, stream=False, said="no choices"),
    Fault("200 without choices", (http(200, orjson.dumps(completion(choices=[]))),), EngineUnavailable, stream=False),
    Fault(
        "200 with an error",
        (http(200, b'{"error": {"message": "no GPU"}}'),),
        EngineUnavailable,
        stream=False,
        said="no GPU",
    ),
    Fault("200 that is not UTF-8", (http(200, b'{"choices": ["\xff"]}'),), EngineUnavailable, stream=False),
    Fault("200 that breaks off", (ANSWER[:-5],), EngineUnavailable, stream=False),
    Fault("200 with bad gzip", (http(200, b"not gzip", "content-encoding: gzip"),), EngineUnavailable),
    Fault("chunked body that breaks off", (CHUNKED + b"ff\r\n{",), EngineUnavailable),
    Fault("chunked body with a bad size", (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",), EngineUnavailable),
    Fault("not streamed though asked", (ANSWER,), EngineUnavailable, stream=True),
    # a stream that fails before its first chunk: another model may still answer
    Fault("stream: nothing", (STREAM,), EngineUnavailable, stream=True),
    Fault("stream: only done", (STREAM + DONE,), EngineUnavailable, stream=True, said="before its first token"),
    Fault("stream: only comments", (STREAM + b": ping\n\n: ping\n\n",), EngineUnavailable, stream=True),
    Fault("stream: half an event", (STREAM + HI[:-5],), EngineUnavailable, stream=True),
    Fault("stream: an error", (STREAM + REPORTED + DONE,), EngineUnavailable, stream=True, said="fell off the bus"),
    Fault(
        "stream: an error without words",
        (STREAM + event({"error": 1}),),
        EngineUnavailable,
        stream=True,
        said="reported",
    ),
    Fault("stream: garbage", (STREAM + b"data: {oops\n\n",), EngineUnavailable, stream=True),
    Fault("stream: an array", (STREAM + b"data: [1]\n\n",), EngineUnavailable, stream=True),
    Fault("stream: an empty event", (STREAM + b"data:\n\n",), EngineUnavailable, stream=True),
    Fault("stream: a huge event", (STREAM + b"data: " + b"x" * 5000,), EngineUnavailable, stream=True),
    # a stream that fails later: nothing may be replayed
    Fault("begun: no done", (STREAM + HI,), EngineCut, stream=True, chunks=1),
    Fault("begun: half an event", (STREAM + HI + HI[:-5],), EngineCut, stream=True, chunks=1),
    Fault(
        "begun: an error", (STREAM + HI,), EngineCut, stream=True, then=(REPORTED + DONE,), chunks=1, said="fell off"
    ),
    Fault("begun: an error at once", (STREAM + HI + REPORTED,), EngineCut, stream=True, chunks=1, said="fell off"),
    Fault("begun: garbage", (STREAM + HI,), EngineCut, stream=True, then=(HI + b"data: {oops\n\n",), chunks=2),
    Fault("begun: an array", (STREAM + HI + b"data: [1]\n\n",), EngineCut, stream=True, chunks=1),
    Fault("begun: a huge event", (STREAM + HI,), EngineCut, stream=True, then=(b"data: " + b"x" * 5000,), chunks=1),
    Fault("begun: breaks off", (CHUNKED_HI,), EngineCut, stream=True, then=(b"ff\r\n{",), chunks=1),
]
CASES = [(fault, stream) for fault in FAULTS for stream in (True, False) if fault.stream in (None, stream)]


@pytest.mark.parametrize(
    ("fault", "stream"), CASES, ids=[f"{fault.name}{', streamed' if stream else ''}" for fault, stream in CASES]
)
def test_a_fault_has_its_one_meaning(monkeypatch: pytest.MonkeyPatch, fault: Fault, stream: bool) -> None:
    monkeypatch.setattr(sse, "EVENT_LIMIT_BYTES", 4000)
    chunks, error, server = run(_failed(fault.reply, fault.then, stream=stream))

    assert type(error) is fault.error
    assert len(chunks) == fault.chunks
    assert fault.said in error.message
    assert error.retry_after_seconds == fault.retry_after_seconds
    if isinstance(error, EngineRefused):
        assert (error.status, error.code, error.param) == (fault.status, fault.code, fault.param)
    assert len(server.requests) == 1  # neither retried nor redirected
    _assert_safe(error, server.port)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    async def test() -> None:
        port = unused_port()
        engine = OpenAIUpstream(base_url=f"http://127.0.0.1:{port}/v1", name="m", api_key=KEY)
        with pytest.raises(EngineUnavailable) as failed:
            await _chunks(engine, Call(BODY, True))
        _assert_safe(failed.value, port)

    run(test())


def test_an_address_that_leads_nowhere_is_unavailable() -> None:
    async def test() -> None:
        with pytest.raises(EngineUnavailable) as failed:
            await _chunks(OpenAIUpstream(base_url="http://no-such-host.invalid/v1", name="m"), Call(BODY, True))
        assert "no-such-host" not in failed.value.message

    run(test())


def test_an_answer_past_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "ANSWER_LIMIT_BYTES", 1000)
    _, error, _ = run(_failed([http(200, orjson.dumps(completion(padding="x" * 1000)))], stream=False))

    assert type(error) is EngineUnavailable
    assert "longer than 1000 bytes" in error.message


@pytest.mark.parametrize(
    "fault",
    ["refused with it", "refused for its parameter", "reported before the first chunk", "reported after it"],
)
def test_the_engines_words_are_shown_without_its_address_and_key(fault: str) -> None:
    """Engines quote their own address, and proxies the key; a long message may not end inside one."""

    async def test() -> EngineError:
        async with FakeUpstream() as server, _engine(server) as engine:
            insides = f"{server.base_url} 127.0.0.1:{server.port} HTTP://127.0.0.1 Bearer {KEY} {KEY.upper()}"
            cut_inside_the_key = f"Ask {insides}. ".ljust(upstream.MESSAGE_LIMIT_CHARACTERS - 12, "x") + KEY
            quoted = {"message": cut_inside_the_key, "code": KEY, "param": server.base_url}
            server.reply = {
                "refused with it": [problem(400, **quoted)],
                "refused for its parameter": [problem(400, **{**quoted, "message": "no"})],
                "reported before the first chunk": [STREAM + event({"error": quoted})],
                "reported after it": [STREAM + HI + event({"error": quoted})],
            }[fault]
            with pytest.raises(EngineError) as failed:
                await _chunks(engine, Call(BODY, True))
            _assert_safe(failed.value, server.port)
            return failed.value

    error = run(test())
    assert "[hidden]" in error.message or (isinstance(error, EngineRefused) and error.code == "[hidden]")
    assert len(error.message) <= upstream.MESSAGE_LIMIT_CHARACTERS


def test_a_redirect_does_not_carry_the_request_elsewhere() -> None:
    async def test() -> None:
        async with FakeUpstream(ANSWER) as elsewhere, FakeUpstream() as server, _engine(server) as engine:
            server.reply = [http(307, b"", f"location: {elsewhere.base_url}/chat/completions")]
            with pytest.raises(EngineUnavailable):
                await _chunks(engine, Call(BODY, False))
            assert elsewhere.requests == []

    run(test())


keys = st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", *TIMINGS])
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.integers(0, 2**63) | st.text(max_size=3)
json_values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=10,
)
fields = st.sampled_from(["usage", "timings", "choices", "error", "message", "code", "type", "param"])
documents = st.dictionaries(fields, json_values, max_size=5)


@settings(max_examples=60)
@given(st.lists(documents, min_size=1, max_size=20))
def test_no_document_of_a_stream_raises_anything_but_an_engine_error(stream_of: list[dict[str, Any]]) -> None:
    chunks, _, _ = run(_outcome([STREAM, *map(event, stream_of), DONE], stream=True))

    assert all("timings" not in chunk.data for chunk in chunks)


@settings(max_examples=60)
@given(st.sampled_from([200, 400, 404, 500]), documents | json_values)
def test_no_document_of_any_status_raises_anything_but_an_engine_error(status: int, document: Any) -> None:
    run(_outcome([http(status, orjson.dumps(document))], stream=False))


fragments = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 400 No\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 100 Go on\r\n\r\n", b"\r\n"),
        *(b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"content-encoding: deflate\r\n"),
        *(b"connection: upgrade\r\n", b"upgrade: h2c\r\n", b"content-type: text/html\r\n"),
        *(b"5\r\n", b"0\r\n\r\n", b"\r", b"\n", b"data: ", b"data: {}\n\n", HI, DONE, b"{}", b"\xff\xfe", b"\0"),
    ]
)


@settings(max_examples=150)
@given(st.lists(fragments | st.binary(max_size=5), max_size=12), st.booleans())
def test_no_bytes_raise_anything_but_an_engine_error(reply: list[bytes], stream: bool) -> None:
    """Whatever it is, it ends: at the latest by a timeout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream, "FIRST_CHUNK_TIMEOUT_SECONDS", SHORT_SECONDS)
        patch.setattr(upstream, "IDLE_TIMEOUT_SECONDS", SHORT_SECONDS)
        run(_outcome(reply, stream=stream))


# Waiting


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        ((STAY,), True),
        ((STAY,), False),
        ((STREAM, STAY), True),
        ((STREAM, *[b": ping\n\n", SHORT_SECONDS / 5] * 50, STAY), True),
        ((ANSWER[:-5], STAY), False),
    ],
    ids=["no headers, streamed", "no headers", "headers only", "comments only", "half a body"],
)
def test_an_engine_that_does_not_begin_in_time_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, reply: tuple[Step, ...], stream: bool
) -> None:
    monkeypatch.setattr(upstream, "FIRST_CHUNK_TIMEOUT_SECONDS", SHORT_SECONDS)
    chunks, error, _ = run(_failed(reply, stream=stream, hangs_up=True))

    assert (chunks, type(error)) == ([], EngineUnavailable)


@pytest.mark.parametrize(
    "then",
    [(), (b": ping\n\n", SHORT_SECONDS / 5) * 50, (b"zz\r\n",)],
    ids=["silence", "comments only", "a bad chunk size"],
)
def test_an_engine_that_falls_silent_is_cut(monkeypatch: pytest.MonkeyPatch, then: tuple[Step, ...]) -> None:
    monkeypatch.setattr(upstream, "IDLE_TIMEOUT_SECONDS", SHORT_SECONDS)
    reply = CHUNKED_HI if b"zz\r\n" in then else STREAM + HI
    chunks, error, _ = run(_failed([reply], [*then, STAY], stream=True, hangs_up=True))

    assert (len(chunks), type(error)) == (1, EngineCut)


def test_an_error_that_is_not_told_to_its_end_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "IDLE_TIMEOUT_SECONDS", SHORT_SECONDS)
    _, error, _ = run(_failed((problem(400, **WRONG_FIELD)[:-5], STAY), stream=False, hangs_up=True))

    assert type(error) is EngineUnavailable


@pytest.mark.parametrize("stream", [True, False])
def test_a_slow_reader_is_not_a_slow_engine(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setattr(upstream, "FIRST_CHUNK_TIMEOUT_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(upstream, "IDLE_TIMEOUT_SECONDS", SHORT_SECONDS)

    async def test() -> int:
        reply = [STREAM + HI, HI + DONE] if stream else [ANSWER]
        async with FakeUpstream(*reply) as server, _engine(server) as engine:
            answer = await engine.begin(Call(BODY, stream))
            count, block = 0, answer.first
            while block:
                count += len(_read(block, stream=stream))
                await asyncio.sleep(1.2 * SHORT_SECONDS)
                block = await answer.more()
            await answer.close()
            return count

    assert run(test()) == (2 if stream else 1)


# Leaving


def test_closing_the_reply_in_the_middle_closes_the_connection() -> None:
    async def test() -> None:
        async with FakeUpstream(STREAM + HI, STAY) as server, _engine(server) as engine:
            reply = await engine.begin(Call(BODY, True))
            assert not server.hung_up.is_set()
            await reply.close()
            await asyncio.wait_for(server.hung_up.wait(), HANG_UP_SECONDS)

    run(test())


@pytest.mark.parametrize(
    ("reply", "stream"),
    [((STAY,), True), ((STREAM, STAY), True), ((STAY,), False), ((ANSWER[:-5], STAY), False)],
    ids=["streamed, before the headers", "streamed, before the first chunk", "before the headers", "inside the body"],
)
def test_cancelling_the_reader_before_the_first_chunk_closes_the_connection(
    reply: tuple[Step, ...], stream: bool
) -> None:
    async def test() -> None:
        async with FakeUpstream(*reply) as server, _engine(server) as engine:
            reading = asyncio.create_task(_chunks(engine, Call(BODY, stream)))
            await server.until_asked()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await asyncio.wait_for(server.hung_up.wait(), HANG_UP_SECONDS)

    run(test())


def test_cancelling_the_reader_in_the_middle_closes_the_connection() -> None:
    async def test() -> None:
        async with FakeUpstream(STREAM + HI, STAY) as server, _engine(server) as engine:
            begun = asyncio.Event()

            async def read() -> None:
                reply = await engine.begin(Call(BODY, True))
                begun.set()
                try:
                    await reply.more()
                finally:
                    await reply.close()

            reading = asyncio.create_task(read())
            await begun.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await asyncio.wait_for(server.hung_up.wait(), HANG_UP_SECONDS)

    run(test())


def test_fifty_readers_who_leave_at_once_all_close_their_connections() -> None:
    """And the next one is served from the same pool."""

    async def test() -> None:
        async with FakeUpstream(STREAM + HI, STAY) as server, _engine(server) as engine:
            readers = [asyncio.create_task(_chunks(engine, Call(BODY, True))) for _ in range(50)]
            await server.until_asked(len(readers))
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await asyncio.wait_for(server.until_idle(), HANG_UP_SECONDS)
            server.reply = [STREAM + HI + DONE]
            assert await _chunks(engine, Call(BODY, True)) == [Chunk(delta("Hi"))]

    run(test())


# Helpers


def run(test: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(test, TEST_LIMIT_SECONDS))


@asynccontextmanager
async def _engine(server: FakeUpstream, **settings: Any) -> AsyncIterator[OpenAIUpstream]:
    told = {"base_url": server.base_url, "name": NAME, "model": "served-model", "api_key": KEY}
    engine = OpenAIUpstream(**{**told, **settings})
    try:
        yield engine
    finally:
        await engine.stop()


def _read(block: bytes, *, stream: bool) -> list[dict[str, Any]]:
    """The documents of a block, each of which must name the model; without that name."""
    written = [event.removeprefix(b"data: ") for event in block.split(b"\n\n") if event] if stream else [block]
    documents = [orjson.loads(document) for document in written]
    assert all(document.pop("model") == NAME for document in documents)
    return documents


async def _chunks(engine: OpenAIUpstream, call: Call) -> list[Chunk]:
    reply = await engine.begin(call)
    try:
        blocks = [reply.first]
        while block := await reply.more():
            blocks.append(block)
    finally:
        await reply.close()
    documents = [document for block in blocks for document in _read(block, stream=call.stream)]
    return [Chunk(document, reply.usage, reply.engine_seconds) for document in documents]


async def _sent(call: Call, **settings: Any) -> Received:
    reply = STREAM + HI + DONE if call.stream else ANSWER
    async with FakeUpstream(reply) as server, _engine(server, **settings) as engine:
        await _chunks(engine, call)
        (request,) = server.requests
        return request


async def _answered(reply: Sequence[Step], *, stream: bool) -> list[Chunk]:
    async with FakeUpstream(*reply) as server, _engine(server) as engine:
        return await _chunks(engine, Call(BODY, stream))


async def _outcome(
    reply: Sequence[Step], then: Sequence[Step] = (), *, stream: bool, hangs_up: bool = False
) -> tuple[list[Chunk], EngineError | None, FakeUpstream]:
    """The chunks, and the error that ended them. Any other exception than EngineError fails the test."""
    begun = asyncio.Event()
    chunks: list[Chunk] = []
    failed = None
    async with FakeUpstream(*reply, *((begun, *then) if then else ())) as server, _engine(server) as engine:
        try:
            answer = await engine.begin(Call(BODY, stream))
            try:
                block = answer.first
                while block:
                    chunks.extend(Chunk(document) for document in _read(block, stream=stream))
                    begun.set()
                    block = await answer.more()
            finally:
                await answer.close()
        except EngineError as error:
            failed = error
        if hangs_up:
            await asyncio.wait_for(server.hung_up.wait(), HANG_UP_SECONDS)
    return chunks, failed, server


async def _failed(
    reply: Sequence[Step], then: Sequence[Step] = (), *, stream: bool, hangs_up: bool = False
) -> tuple[list[Chunk], EngineError, FakeUpstream]:
    chunks, error, server = await _outcome(reply, then, stream=stream, hangs_up=hangs_up)
    assert error is not None
    return chunks, error, server


def _assert_safe(error: EngineError, port: int) -> None:
    """Nothing that a client is told names the server or the key."""
    told = " ".join(str(value) for value in (error.message, error, vars(error))).lower()
    assert not re.search(rf"127\.0\.0\.1|localhost|\b{port}\b|/v1|{re.escape(KEY.lower())}", told)
    assert KEY.lower()[:9] not in told
