"""Answers on the wire: what each event and header is, and what a client sees when something breaks or stops."""

import asyncio

import orjson
import pytest
from openai import APIError

from models.engine import Call, EngineUnavailable
from models.scripted import Say, Script, Wait
from tests.gateway.wire import (
    CHAT,
    USER,
    OpenRig,
    chat,
    checked_error,
    connection,
    error_of,
    events_of,
    raw_response,
    request_bytes,
    until,
)

pytestmark = pytest.mark.anyio


def buggy(*said: Say) -> Script:
    """An engine that fails in a way nobody thought of, after it *said* something."""

    class Bug:
        def __iter__(self) -> object:
            yield from said
            raise RuntimeError("secret insides")

    return Bug()  # type: ignore[return-value]  # only ever iterated


async def test_a_stream_through_the_sdk_is_the_engines_text(rig: OpenRig) -> None:
    async with rig() as r:
        stream = await r.client.chat.completions.create(model="auto", messages=[USER], stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "large answer"
        assert [c.choices[0].finish_reason for c in chunks] == [None, None, "stop"]
        assert {c.model for c in chunks} == {"large"}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_every_answer_says_who_answered_and_why(rig: OpenRig, streamed: bool) -> None:
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat("small", stream=streamed))
        headers = response.headers
        assert headers["x-request-id"].startswith("req_")
        assert int(headers["openai-processing-ms"]) >= 0
        assert headers["x-pointsman-model"] == "small"
        assert headers["x-pointsman-basis"] == "pinned"
        assert headers["x-pointsman-reason"] == "the request names the model"
        assert "x-pointsman-template" not in headers
        assert "x-pointsman-passed-over" not in headers
        if streamed:
            assert headers["cache-control"] == "no-store"
            assert events_of(response).count("[DONE]") == 1


async def test_an_alias_is_routed_as_what_it_stands_for_and_kept_as_it_was_asked(rig: OpenRig) -> None:
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat("gpt-4o-mini"))
        assert response.json()["model"] == "large"
        assert response.headers["x-pointsman-basis"] == "safe"
        [row] = await r.charges(1)
        assert (row["asked"], row["model"]) == ("gpt-4o-mini", "large")


async def test_the_template_of_a_request_is_in_the_header_and_in_the_ledger(rig: OpenRig) -> None:
    async with rig() as r:
        messages = [{"role": "system", "content": "Translate."}, USER]
        response = await r.http.post(CHAT, json={"model": "auto", "messages": messages})
        [row] = await r.charges(1)
        assert len(row["template"]) == 16
        assert response.headers["x-pointsman-template"] == row["template"]


async def test_an_engines_bug_in_the_middle_ends_the_stream_with_an_error_that_hides_our_insides(rig: OpenRig) -> None:
    async with rig(large=lambda call: buggy(Say("one "))) as r:
        response = await r.http.post(CHAT, json=chat(stream=True))
        assert response.status_code == 200
        *_, event, done = events_of(response)
        error = checked_error(orjson.loads(event)["error"], response.headers)
        assert response.headers["x-request-id"] in error["message"]
        assert "insides" not in response.text
        assert done == "[DONE]"
        [row] = await r.charges(1)
        assert (row["outcome"], row["code"], row["completion_tokens"]) == ("cut", "internal_error", 1)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_an_engines_bug_before_the_first_chunk_is_a_500_that_hides_our_insides(
    rig: OpenRig, streamed: bool
) -> None:
    async with rig(large=lambda call: buggy()) as r:
        response = await r.http.post(CHAT, json=chat(stream=streamed))
        assert response.status_code == 500
        assert error_of(response)["code"] == "internal_error"
        assert "insides" not in response.text
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"], row["code"]) == ("failed", 500, "internal_error")


async def test_the_sdk_raises_when_a_stream_breaks_off(rig: OpenRig) -> None:
    async with rig(large=lambda call: [Say("one "), EngineUnavailable("the engine went away")]) as r:
        stream = await r.client.chat.completions.create(model="auto", messages=[USER], stream=True)
        assert (await anext(stream)).choices[0].delta.content == "one "
        with pytest.raises(APIError, match="the engine went away"):
            await anext(stream)


async def test_a_stream_that_breaks_off_is_charged_by_the_tokens_counted_so_far(rig: OpenRig) -> None:
    async with rig(large=lambda call: [Say("a "), Say("b "), Say("c "), EngineUnavailable("x")]) as r:
        await r.http.post(CHAT, json=chat(stream=True))
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"]) == ("cut", 200)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (3, 3)
        assert row["cost_nano_usd"] == 3 * 1000 + 3 * 2000


async def test_a_client_that_leaves_in_the_middle_stops_the_engine_within_a_second(rig: OpenRig) -> None:
    async with rig(large=lambda call: [Say("a "), Wait()]) as r:
        async with connection(r, request_bytes(r, chat(stream=True))) as reader:
            await reader.readuntil(b'"a "')
        await until(lambda: r.engines["large"].abandoned == 1, 1.0)
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"], row["completion_tokens"]) == ("gone", 200, 1)
        assert await r.metric("pointsman_requests_in_flight") == 0


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_a_client_that_leaves_the_queue_is_charged_once_and_never_calls_the_engine(
    rig: OpenRig, streamed: bool
) -> None:
    catalog = "models: [{name: large, engine: scripted, tier: 0, context_tokens: 100, parallel: 1}]"
    go = asyncio.Event()
    async with rig(large=lambda call: [Wait(go), Say("x")], catalog=catalog) as r:
        first = asyncio.create_task(r.http.post(CHAT, json=chat()))
        await until(lambda: len(r.engines["large"].calls) == 1)
        async with connection(r, request_bytes(r, chat(stream=streamed))):
            await until(lambda: r.runtime.engines["large"].waiting == 1)
        await until(lambda: r.runtime.engines["large"].waiting == 0, 1.0)
        [gone] = await r.charges(1)
        assert (gone["outcome"], gone["status"], gone["prompt_tokens"]) == ("gone", None, None)
        go.set()
        assert (await first).status_code == 200
        assert len(r.engines["large"].calls) == 1


async def test_a_client_that_leaves_while_it_sends_its_request_is_charged_as_gone(rig: OpenRig) -> None:
    async with rig() as r:
        async with connection(r, request_bytes(r, chat())[:-10]):
            await until(lambda: r.runtime.meter.metrics.in_flight._value.get() == 1)
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"], row["attempts"]) == ("gone", None, 0)
        assert r.engines["large"].calls == []


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_twenty_clients_that_leave_before_the_first_chunk_free_every_place(rig: OpenRig, streamed: bool) -> None:
    """Two are being answered and eighteen wait; then one more is answered at once."""
    waiting = True

    def play(call: Call) -> Script:
        return [Wait()] if waiting else [Say("at once")]

    async with rig(large=play) as r:
        async with asyncio.TaskGroup() as crowd:
            leave = asyncio.Event()

            async def come_and_go() -> None:
                async with connection(r, request_bytes(r, chat(stream=streamed))):
                    await leave.wait()

            for _ in range(20):
                crowd.create_task(come_and_go())
            await until(lambda: r.runtime.engines["large"].waiting == 18, 5.0)
            leave.set()
        await until(lambda: 2 <= r.engines["large"].abandoned == len(r.engines["large"].calls), 1.0)
        rows = await r.charges(20)
        assert {row["outcome"] for row in rows} == {"gone"}
        waiting = False
        answer = await r.client.chat.completions.create(model="large", messages=[USER])
        assert answer.choices[0].message.content == "at once"


async def test_one_connection_serves_one_request_after_another(rig: OpenRig) -> None:
    async with rig() as r, connection(r, request_bytes(r, chat()) + request_bytes(r, chat("small"))) as reader:
        for name in ("large", "small"):
            response = await raw_response(reader)
            assert (response.status_code, response.json()["model"]) == (200, name)
        await r.charges(2)


async def test_a_connection_goes_on_after_a_refused_request(rig: OpenRig) -> None:
    async with rig() as r, connection(r, request_bytes(r, {"model": 1}) + request_bytes(r, chat())) as reader:
        assert (await raw_response(reader)).status_code == 400
        assert (await raw_response(reader)).status_code == 200


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_answers_still_running_at_shutdown_are_charged(rig: OpenRig, streamed: bool) -> None:
    """The rig gives them a second; what has not ended then is cut off."""
    async with rig(large=lambda call: [Say("a "), Wait()]) as r:
        asking = asyncio.create_task(r.http.post(CHAT, json=chat(stream=streamed)))
        await until(lambda: len(r.engines["large"].calls) == 1)
        r.server.should_exit = True
        await asyncio.wait({asking}, timeout=5)
        asking.exception()
    [row] = await r.charges(1)
    assert row["outcome"] == ("cut" if streamed else "failed")
    assert row["completion_tokens"] == (1 if streamed else None)


async def test_the_decision_endpoint_explains_and_charges_nothing(rig: OpenRig) -> None:
    async with rig() as r:
        pinned = (await r.http.post("/v1/decision", json=chat("small"))).json()
        assert (pinned["object"], pinned["model"], pinned["basis"]) == ("decision", "small", "pinned")
        assert pinned["decide_seconds"] >= 0
        assert set(pinned["bar"]) == {"confidence", "pass_rate", "margin"}
        wrong = await r.http.post("/v1/decision", json=chat("nobody"))
        assert wrong.status_code == 404
        error_of(wrong)
        await r.charges(0)
