"""A request's spans tell what its headers and the ledger tell, to a real collector; they cost no request anything."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, url_attributes

from gateway.settings import SettingsError
from gateway.tracing import spans
from gateway.tracing.opening import TracingOpener, check_installed
from gateway.tracing.section import TracingSection
from gateway.tracing.spans import QUEUE_SPANS, Tracing
from models.engine import EngineUnavailable
from tests.fakes import unused_port
from tests.gateway.prompting.world import LIBRARY, TRIAGE, Trusting, publish
from tests.gateway.test_cascade import ASKED as CHECKED
from tests.gateway.test_cascade import UNSURE, saying
from tests.gateway.test_cascade import knowing as knowing_a_check
from tests.gateway.test_wishes import ASKED, HOLDS_A_TENTH, knowing
from tests.gateway.tracing.collector import Collector, collecting
from tests.gateway.wire import CHAT, OpenRig, chat
from tests.rig import say
from tests.terminal import Terminal

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLERS = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "vendor=1"}
AUTO = {"model": "auto", "messages": ASKED}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(spans, "EVERY_SECONDS", 0.05)
    with collecting() as running:
        yield running


def tracing(collector: Collector, **more: Any) -> dict[str, Any]:
    return {"tracing": TracingSection(endpoint=collector.url, **more)}


def without_none(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}


async def test_a_request_is_a_span_with_one_for_its_decision_and_one_for_its_call(
    rig: OpenRig, collector: Collector
) -> None:
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH), **tracing(collector)) as r:
        answer = await r.http.post(CHAT, json={**AUTO, "max_tokens": 9}, headers=CALLERS)
        [row] = await r.charges(1)
        await collector.until(3)
        whole, decide, call = (collector.one(n) for n in (f"POST {CHAT}", "decide", "chat small"))
        assert {span.trace_id for span in collector.spans} == {TRACE_ID}
        assert (whole.parent_id, decide.parent_id, call.parent_id) == (PARENT_ID, whole.span_id, whole.span_id)
        assert (whole.kind, call.kind) == ("SPAN_KIND_SERVER", "SPAN_KIND_CLIENT")
        [sent] = r.engines["small"].calls
        assert sent.headers == {"traceparent": f"00-{TRACE_ID}-{call.span_id}-01", "tracestate": "vendor=1"}
        assert collector.paths == ["/v1/traces"] * len(collector.paths)
        assert {one["service.name"] for one in collector.resources} == {"pointsman"}
        assert decide.seconds == pytest.approx(row["decide_seconds"], abs=2e-6)
        assert (
            without_none(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "auto",
                    "gen_ai.request.stream": False,
                    "gen_ai.response.model": "small",
                    "gen_ai.response.time_to_first_chunk": row["first_chunk_seconds"],
                    "gen_ai.usage.input_tokens": row["prompt_tokens"],
                    "gen_ai.usage.output_tokens": row["completion_tokens"],
                    "gen_ai.usage.cache_read.input_tokens": row["cached_tokens"],
                    "http.request.method": "POST",
                    "http.response.status_code": 200,
                    "http.route": CHAT,
                    "url.path": CHAT,
                    "pointsman.request_id": answer.headers["x-request-id"],
                    "pointsman.template": answer.headers["x-pointsman-template"],
                    "pointsman.basis": answer.headers["x-pointsman-basis"],
                    "pointsman.reason": answer.headers["x-pointsman-reason"],
                    "pointsman.cost_usd": row["cost_nano_usd"] / 1e9,
                    "pointsman.safe_cost_usd": row["safe_cost_nano_usd"] / 1e9,
                    "pointsman.attempts": 1,
                    "pointsman.decide_seconds": row["decide_seconds"],
                    "pointsman.outcome": "ok",
                }
            )
            == whole.attributes
        )
        assert decide.attributes["pointsman.order"] == ["small", "large"]
        assert decide.attributes["pointsman.bound"] == pytest.approx(-0.079, abs=0.01)
        assert decide.attributes["pointsman.expected_usd"] > 0
        assert decide.attributes["pointsman.expected_completion_tokens"] == 9
        assert decide.attributes["pointsman.verdict"] == "holds"
        assert call.attributes["gen_ai.usage.output_tokens"] == row["completion_tokens"]


async def test_no_word_of_a_prompt_or_an_answer_is_in_a_span(rig: OpenRig, collector: Collector) -> None:
    async with rig(large=say("canary-answer"), **tracing(collector)) as r:
        messages = [{"role": "system", "content": "canary-system"}, {"role": "user", "content": "canary-user"}]
        for stream in (False, True):
            await r.http.post(CHAT, json={"model": "auto", "messages": messages, "stream": stream, "user": "canary-id"})
        await r.http.post("/v1/completions", json={"model": "large", "prompt": "canary-prompt"})
        await r.http.post(CHAT, json={"model": "canary-model", "messages": messages})
        await collector.until(9 + 1)
    sent = b"".join(collector.raw)
    assert b"pointsman.basis" in sent
    for canary in (b"canary-system", b"canary-user", b"canary-answer", b"canary-prompt", b"canary-id", r.key.encode()):
        assert canary not in sent


async def test_a_prompt_of_the_library_is_named_with_what_each_model_is_told_and_no_word_of_it(
    rig: OpenRig, collector: Collector
) -> None:
    down = lambda call: [EngineUnavailable("down")]  # noqa: E731
    async with rig(small=down, knowledge_maker=Trusting(TRIAGE), **tracing(collector)) as r:
        publish(r, LIBRARY)
        answer = await r.http.post(CHAT, json={"prompt": {"id": TRIAGE.id, "variables": {"ticket": "canary"}}})
        assert answer.headers["x-prompt-variant"] == "base"
        await collector.until(4)
        for name, variant in ((f"POST {CHAT}", "base"), ("chat small", "small"), ("chat large", "base")):
            told = {key: value for key, value in collector.one(name).attributes.items() if ".prompt." in key}
            assert told == {
                "gen_ai.prompt.name": TRIAGE.id,
                "gen_ai.prompt.version": "1",
                "pointsman.prompt.variant": variant,
            }
    assert b"canary" not in b"".join(collector.raw)


async def test_where_no_prompt_is_named_no_span_says_anything_of_one(rig: OpenRig, collector: Collector) -> None:
    async with rig(**tracing(collector)) as r:
        await r.http.post(CHAT, json=chat())
        await collector.until(3)
        assert not [key for span in collector.spans for key in span.attributes if ".prompt." in key]


async def test_each_model_that_is_tried_has_a_span_and_those_that_failed_say_why(
    rig: OpenRig, collector: Collector
) -> None:
    down = lambda call: [EngineUnavailable("down")]  # noqa: E731
    async with rig(small=down, knowledge_maker=knowing(HOLDS_A_TENTH), **tracing(collector)) as r:
        answer = await r.http.post(CHAT, json=AUTO)
        assert answer.headers["x-pointsman-passed-over"] == "small"
        await collector.until(4)
        small, large = collector.one("chat small"), collector.one("chat large")
        assert (small.status, small.attributes["error.type"]) == ("STATUS_CODE_ERROR", "EngineUnavailable")
        assert (large.status, large.attributes["gen_ai.response.model"]) == ("STATUS_CODE_UNSET", "large")
        assert collector.one(f"POST {CHAT}").attributes["pointsman.attempts"] == 2
        [sent] = r.engines["large"].calls
        assert large.span_id in sent.headers["traceparent"]


async def test_an_answer_that_fails_its_check_is_told_with_what_it_took(rig: OpenRig, collector: Collector) -> None:
    asked = {"model": "auto", "messages": CHECKED}
    async with rig(small=saying(UNSURE), knowledge_maker=knowing_a_check(), **tracing(collector)) as r:
        answer = await r.http.post(CHAT, json=asked)
        assert answer.headers["x-pointsman-check"] == "failed"
        await collector.until(4)
        whole, decide, small = (collector.one(n) for n in (f"POST {CHAT}", "decide", "chat small"))
        assert (small.status, small.attributes["pointsman.check"]) == ("STATUS_CODE_UNSET", "failed")
        assert small.attributes["gen_ai.usage.output_tokens"] == whole.attributes["pointsman.discarded_tokens"] == 1
        assert (whole.attributes["pointsman.check"], whole.attributes["pointsman.basis"]) == ("failed", "check")
        assert (decide.attributes["pointsman.held_seconds"], collector.one("chat large").status) == (
            10.0,
            "STATUS_CODE_UNSET",
        )


async def test_who_is_refused_has_a_span_and_a_fault_is_marked_as_one(rig: OpenRig, collector: Collector) -> None:
    down = lambda call: [EngineUnavailable("down")]  # noqa: E731
    async with rig(large=down, **tracing(collector)) as r:
        await r.http.post(CHAT, content=b"{")
        await r.http.post(CHAT, json=chat("large"))
        await collector.until(4)
        refused, failed = (span for span in collector.spans if span.kind == "SPAN_KIND_SERVER")
        assert (refused.attributes["http.response.status_code"], refused.status) == (400, "STATUS_CODE_UNSET")
        assert (failed.attributes["http.response.status_code"], failed.status) == (503, "STATUS_CODE_ERROR")
        assert failed.attributes["error.type"] == "engine_unavailable"


async def test_a_caller_who_does_not_trace_is_not_traced_and_the_share_is_for_the_others(
    rig: OpenRig, collector: Collector
) -> None:
    async with rig(**tracing(collector, share=0.0)) as r:
        await r.http.post(CHAT, json=chat(), headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"})
        await r.http.post(CHAT, json=chat())
        await r.http.post(CHAT, json=chat(), headers={"traceparent": "00-nonsense"})
        await r.http.post(CHAT, json=chat(), headers=CALLERS)
        await collector.until(3)
        assert {span.trace_id for span in collector.spans} == {TRACE_ID}
        flags = [int(call.headers["traceparent"][-2:], 16) for call in r.engines["large"].calls]
        assert [flag & 1 for flag in flags] == [0, 0, 0, 1]  # the next bit says that the trace's id is random
        assert TRACE_ID in r.engines["large"].calls[0].headers["traceparent"]


async def test_a_collector_that_is_not_there_or_does_not_answer_costs_nobody_anything(
    rig: OpenRig, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the shutdown, which waits for a moment only: what is sent here would take an hour."""
    monkeypatch.setattr(spans, "SEND_SECONDS", 3600.0)
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 0.05)
    collector.answers.clear()
    for endpoint in (collector.url, f"http://127.0.0.1:{unused_port()}"):
        async with rig(tracing=TracingSection(endpoint=endpoint)) as r:
            for _ in range(20):
                assert (await r.http.post(CHAT, json=chat())).status_code == 200
            await r.charges(20 if endpoint == collector.url else 40)


def test_what_waits_for_a_silent_collector_is_bounded(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 0.05)
    collector.answers.clear()
    one = Tracing(collector.url, 1.0, "1")
    for number in range(2 * QUEUE_SPANS):
        trace = one.begin(f"req_{number}", CHAT, {})
        assert trace is not None
        trace._span.end()
    assert len(one._processor._batch_processor._queue) == QUEUE_SPANS
    one.close()


async def test_what_waits_is_sent_before_the_gateway_ends(
    rig: OpenRig, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "EVERY_SECONDS", 3600.0)
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 60.0)
    async with rig(**tracing(collector)) as r:
        await r.http.post(CHAT, json=chat())
        assert collector.spans == []
    assert len(collector.spans) == 3


async def test_a_fault_of_tracing_fails_no_request(
    rig: OpenRig, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    async with rig(**tracing(collector)) as r:
        assert r.runtime.tracing is not None
        first = r.runtime.tracing.begin("req", CHAT, {})
        assert first is not None
        monkeypatch.setattr(r.runtime.tracing, "begin", lambda *_: first)
        monkeypatch.setattr(first._tracer, "start_span", broken)
        assert (await r.http.post(CHAT, json=chat())).status_code == 200
        monkeypatch.undo()
        monkeypatch.setattr(r.runtime.tracing._tracer, "start_span", broken)
        assert (await r.http.post(CHAT, json=chat())).status_code == 200
        await r.charges(2)


async def test_a_reload_begins_and_ends_tracing(rig: OpenRig, collector: Collector) -> None:
    async with rig() as r:
        on = r.runtime.settings.model_copy(update=tracing(collector))
        await r.http.post(CHAT, json=chat())
        await r.builder.swap(await r.builder.build(on))
        await r.http.post(CHAT, json=chat())
        await collector.until(3)
        same = await r.builder.build(on)
        assert same.tracing is r.builder.runtime.tracing
        await r.builder.swap(await r.builder.build(r.runtime.settings))
        await r.http.post(CHAT, json=chat())
        await r.charges(3)
    assert len(collector.spans) == 3


# The conventions for generative models left the package, which has what there was then.
OF_THEIR_OWN_REPOSITORY = {"gen_ai.prompt.version"}


def test_the_names_are_those_of_the_installed_conventions() -> None:
    known = {
        value
        for module in (gen_ai_attributes, http_attributes, url_attributes, error_attributes)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    text = Path(spans.__file__).read_text(encoding="utf-8")
    used = {part for part in text.split('"') if part.startswith(("gen_ai.", "http.", "url.", "error."))}
    assert len(used) > 12
    assert used <= known | OF_THEIR_OWN_REPOSITORY
    operations = {one.value for one in gen_ai_attributes.GenAiOperationNameValues}
    assert {"chat", *spans.OPERATIONS.values()} <= operations


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_without_the_extra_an_endpoint_is_refused_with_the_remedy(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    named = TracingSection(endpoint="http://127.0.0.1:4318")
    with pytest.raises(SettingsError, match=r"pip install 'pointsman\[otel\]'"):
        TracingOpener("1").open(named)
    with pytest.raises(SettingsError, match="POINTSMAN_TRACING__ENDPOINT"):
        check_installed(named)
    assert TracingOpener("1").open(TracingSection()) is None


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_start_without_the_extra_is_refused_with_the_remedy(
    command: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setenv("POINTSMAN_TRACING__ENDPOINT", "http://127.0.0.1:4318")
    said = terminal.run(command)
    assert said.code == 1
    assert "pip install 'pointsman[otel]'" in said.out + said.err


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "http://me:secret@h/v1/traces", "http://", "ftp://h", "http://h?a"]
)
def test_an_endpoint_is_an_address_without_credentials(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        TracingSection(endpoint=endpoint)


IMPORTS_NOTHING = """
import asyncio, sys, tempfile
from pathlib import Path
from tests.gateway.wire import CHAT, chat
from tests.rig import running_rig

async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with running_rig(Path(folder)) as r:
            assert (await r.http.post(CHAT, json=chat())).status_code == 200
            assert (await r.http.get("/v1/models")).status_code == 200
            assert r.runtime.tracing is None

asyncio.run(main())
heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "gateway.tracing.spans", "requests")
print([name for name in sys.modules if name.startswith(heavy)])
"""


def test_without_an_endpoint_nothing_of_it_is_imported_and_nothing_is_sent(collector: Collector) -> None:
    """Whatever the environment says to FastAPI, which brings OpenTelemetry's API and would trace by itself."""
    environment = os.environ | {
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    command = [sys.executable, "-c", IMPORTS_NOTHING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
    assert collector.raw == []
