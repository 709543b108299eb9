"""A request's way through the whole gateway, by the official SDK: what the client gets, and that it is charged once."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, InternalServerError, NotFoundError

from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Call, ContextTooLong, EngineCut, EngineRefused, EngineUnavailable
from models.scripted import Say, Wait
from prompts.message import template_key
from router.bar import Bar, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from tests.rig import say

pytestmark = pytest.mark.anyio

EASY = {"role": "system", "content": "Say whether the text is kind."}
HARD = {"role": "system", "content": "Prove the theorem."}
USER = {"role": "user", "content": "three words here"}
ERROR_KEYS = {"message", "type", "param", "code"}

OpenRig = Callable[..., Any]


def knows_easy(catalog: Catalog, settings: Settings) -> Knowledge:
    """The small model has proved itself on EASY and failed on HARD."""
    small = catalog.models["small"].build
    easy, hard = template_key({"messages": [EASY]}), template_key({"messages": [HARD]})
    assert easy is not None
    assert hard is not None
    tallies = {
        (easy, small): Tally(passed=100, total=100, paired=100),
        (hard, small): Tally(passed=10, total=100, lost=80, paired=100),
    }
    return Knowledge(tuple(catalog), Evidence(tallies), Difficulty({}), {}, Bar(0.95, margin=0.1))


async def test_evidence_sends_the_easy_template_to_the_small_model_and_the_hard_one_to_the_large(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knows_easy) as r:
        easy = await r.client.chat.completions.with_raw_response.create(model="auto", messages=[EASY, USER])
        hard = await r.client.chat.completions.with_raw_response.create(model="auto", messages=[HARD, USER])
        unknown = await r.client.chat.completions.with_raw_response.create(model="auto", messages=[USER])
        assert (easy.headers["x-pointsman-model"], easy.headers["x-pointsman-basis"]) == ("small", "evidence")
        assert (hard.headers["x-pointsman-model"], hard.headers["x-pointsman-basis"]) == ("large", "evidence")
        assert (unknown.headers["x-pointsman-model"], unknown.headers["x-pointsman-basis"]) == ("large", "safe")
        assert "lost 80" in hard.headers["x-pointsman-reason"]
        rows = await r.charges(3)
        assert [row["model"] for row in rows] == ["small", "large", "large"]


async def test_a_plain_answer_is_the_engines_under_the_catalogues_name(rig: OpenRig) -> None:
    async with rig() as r:
        raw = await r.client.chat.completions.with_raw_response.create(model="small", messages=[USER])
        answer = raw.parse()
        assert answer.choices[0].message.content == "small answer"
        assert answer.model == "small"
        assert raw.headers["x-request-id"].startswith("req_")
        [row] = await r.charges(1)
        assert row["id"] == raw.headers["x-request-id"]
        assert answer.usage is not None
        assert (row["prompt_tokens"], row["completion_tokens"]) == (
            answer.usage.prompt_tokens,
            answer.usage.completion_tokens,
        )
        assert row["cost_nano_usd"] == 3 * 100 + 2 * 200  # 0.1 and 0.2 dollars per million are 100 and 200 nano a token
        assert row["safe_cost_nano_usd"] == 3 * 1000 + 2 * 2000


async def test_a_stream_ends_once_and_counts_only_when_asked(rig: OpenRig) -> None:
    async with rig() as r:
        for include in (False, True):
            body = {"model": "small", "messages": [USER], "stream": True, "stream_options": {"include_usage": include}}
            response = await r.http.post("/v1/chat/completions", json=body)
            events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
            assert events[-1] == "[DONE]"
            documents = [json.loads(event) for event in events[:-1]]
            said = "".join(c["delta"].get("content") or "" for d in documents for c in d["choices"])
            assert said == "small answer"
            assert [d["usage"]["total_tokens"] for d in documents if not d["choices"]] == ([5] if include else [])
            assert {d["model"] for d in documents} == {"small"}
        assert {row["outcome"] for row in await r.charges(2)} == {"ok"}


async def test_fields_of_the_protocol_that_we_do_not_know_reach_the_engine(rig: OpenRig) -> None:
    async with rig() as r:
        message = {**USER, "name": "ann", "x_new": {"deep": [1]}}
        await r.client.chat.completions.create(
            model="gpt-4o-mini", messages=[message], seed=7, extra_body={"brand_new": [1, {"a": None}]}
        )
        body = r.engines["large"].calls[0].body
        assert body["messages"] == [message]
        assert (body["seed"], body["brand_new"]) == (7, [1, {"a": None}])


async def test_the_next_model_is_tried_until_the_first_chunk(rig: OpenRig) -> None:
    def broken(call: Call) -> list[EngineUnavailable]:
        return [EngineUnavailable("gone")]

    async with rig(small=broken, knowledge_maker=knows_easy) as r:
        for stream in (False, True):
            raw = await r.client.chat.completions.with_raw_response.create(
                model="auto", messages=[EASY, USER], stream=stream
            )
            assert raw.headers["x-pointsman-model"] == "large"
            assert raw.headers["x-pointsman-passed-over"] == "small"
            await raw.http_response.aread()
        assert [(row["model"], row["attempts"]) for row in await r.charges(2)] == [("large", 2)] * 2


async def test_a_model_named_by_the_client_is_never_replaced(rig: OpenRig) -> None:
    async with rig(small=lambda call: [EngineUnavailable("gone")]) as r:
        with pytest.raises(InternalServerError) as caught:
            await r.client.chat.completions.create(model="small", messages=[USER])
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert r.engines["large"].calls == []
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"], row["code"]) == ("failed", 503, "engine_unavailable")


async def test_a_prompt_too_long_for_the_small_model_goes_to_one_with_room(rig: OpenRig) -> None:
    too_long = ContextTooLong("the prompt has 1,200 tokens, the model takes 1,000")
    async with rig(small=lambda call: [too_long], knowledge_maker=knows_easy) as r:
        raw = await r.client.chat.completions.with_raw_response.create(model="auto", messages=[EASY, USER])
        assert raw.headers["x-pointsman-model"] == "large"
        with pytest.raises(BadRequestError) as caught:
            await r.client.chat.completions.create(model="small", messages=[USER])
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
        rows = await r.charges(2)
        assert (rows[1]["outcome"], rows[1]["cost_nano_usd"]) == ("refused", 0)


async def test_an_engine_that_breaks_off_gives_an_error_event_and_a_charge_for_what_was_made(rig: OpenRig) -> None:
    async with rig(large=lambda call: [Say("one "), Say("two "), EngineCut("broke off")]) as r:
        body = {"model": "auto", "messages": [USER], "stream": True}
        response = await r.http.post("/v1/chat/completions", json=body)
        events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        assert set(json.loads(events[-2])["error"]) == ERROR_KEYS
        assert events[-1] == "[DONE]"
        assert len(r.engines["large"].calls) == 1  # nothing is replayed
        [row] = await r.charges(1)
        assert (row["outcome"], row["completion_tokens"], row["code"]) == ("cut", 2, "engine_cut")


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_a_client_that_leaves_before_the_first_chunk_stops_the_engine(rig: OpenRig, streamed: bool) -> None:
    async with rig(large=lambda call: [Wait()]) as r:
        body = {"model": "auto", "messages": [USER], "stream": streamed}
        calls = [asyncio.create_task(r.http.post("/v1/chat/completions", json=body)) for _ in range(3)]
        await _until(lambda: len(r.engines["large"].calls) == 2)  # two places; the third request is queued
        for call in calls:
            call.cancel()
        await _until(lambda: 2 <= r.engines["large"].abandoned == len(r.engines["large"].calls))
        assert {row["outcome"] for row in await r.charges(3)} == {"gone"}


async def test_twenty_clients_that_leave_in_the_middle_are_each_charged_once(rig: OpenRig) -> None:
    catalog = """
models:
  - {name: large, engine: scripted, tier: 0, context_tokens: 100, parallel: 20, price: {input_usd: 1, output_usd: 2}}
"""
    async with rig(large=lambda call: [Say("a "), Say("b "), Wait()], catalog=catalog) as r:

        async def leave_after_two_chunks() -> None:
            body, seen = {"model": "auto", "messages": [USER], "stream": True}, b""
            async with (
                r.http.stream("POST", "/v1/chat/completions", json=body) as response,
                aclosing(response.aiter_raw()) as pieces,  # left to the garbage collector it may complain
            ):
                async for piece in pieces:
                    seen += piece
                    if b'"b "' in seen:
                        return

        await asyncio.gather(*(leave_after_two_chunks() for _ in range(20)))
        await _until(lambda: r.engines["large"].abandoned == 20)
        rows = await r.charges(20)
        assert {(row["outcome"], row["completion_tokens"]) for row in rows} == {("gone", 2)}
        assert await r.metric("pointsman_requests_in_flight") == 0


async def test_a_full_queue_is_a_503_that_says_when_to_come_back(rig: OpenRig) -> None:
    free = asyncio.Event()
    catalog = """
models:
  - {name: large, engine: scripted, tier: 0, context_tokens: 100, parallel: 1, queue: 1}
"""
    async with rig(large=lambda call: [Wait(free), Say("late")], catalog=catalog) as r:
        waiting = [
            asyncio.create_task(r.client.chat.completions.create(model="auto", messages=[USER])) for _ in range(2)
        ]
        await _until(lambda: r.runtime.engines["large"].waiting == 1)
        with pytest.raises(InternalServerError) as caught:
            await r.client.chat.completions.create(model="auto", messages=[USER])
        assert (caught.value.status_code, caught.value.code) == (503, "server_is_overloaded")
        assert caught.value.response.headers["retry-after"] == "2"
        free.set()
        answers = await asyncio.gather(*waiting)
        assert [a.choices[0].message.content for a in answers] == ["late", "late"]
        rows = await r.charges(3)
        assert all(row["cost_nano_usd"] is None for row in rows if row["outcome"] == "ok")  # unknown, never 0


async def test_the_engines_own_refusal_reaches_the_client(rig: OpenRig) -> None:
    refusal = EngineRefused("tools are not supported", status=400, code="unsupported", param="tools")
    async with rig(large=lambda call: [refusal]) as r:
        with pytest.raises(BadRequestError) as caught:
            await r.client.chat.completions.create(model="auto", messages=[USER])
        assert (caught.value.code, caught.value.param) == ("unsupported", "tools")


async def test_a_fault_of_the_router_is_answered_by_the_safe_tier(rig: OpenRig) -> None:
    def no_models(catalog: Catalog, settings: Settings) -> Knowledge:
        knowledge = knows_easy(catalog, settings)
        object.__setattr__(knowledge, "_shown", None)  # whatever goes wrong inside
        return knowledge

    async with rig(knowledge_maker=no_models) as r:
        raw = await r.client.chat.completions.with_raw_response.create(model="auto", messages=[EASY, USER])
        assert (raw.headers["x-pointsman-model"], raw.headers["x-pointsman-basis"]) == ("large", "fault")


async def test_a_decision_is_the_one_that_a_request_would_get_and_calls_nothing(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knows_easy) as r:
        body = {"model": "auto", "messages": [EASY, USER]}
        decision = (await r.http.post("/v1/decision", json=body)).json()
        assert (decision["model"], decision["basis"], decision["order"]) == ("small", "evidence", ["small", "large"])
        assert r.engines["small"].calls == []
        await r.charges(0)


async def test_an_unknown_model_is_a_404_that_names_the_nearest(rig: OpenRig) -> None:
    async with rig() as r:
        with pytest.raises(NotFoundError, match=r"served: auto, small, large; did you mean 'large'") as caught:
            await r.client.chat.completions.create(model="Large-1", messages=[USER])
        assert caught.value.code == "model_not_found"


async def test_ledger_metrics_and_engines_agree_to_the_token_over_a_mix(rig: OpenRig) -> None:
    def play(call: Call) -> list[Any]:
        word = call.body["messages"][-1]["content"].split()[0]
        scripts: dict[str, list[Any]] = {
            "ok": [Say("a "), Say("b ")],
            "cut": [Say("a "), EngineCut("x")],
            "fail": [EngineUnavailable("x")],
        }
        return scripts[word]

    async with rig(large=play, small=say("s")) as r:

        async def one(place: int) -> None:
            content = f"{('ok', 'cut', 'fail')[place % 3]} {'word ' * place}"
            body = {"model": "auto", "messages": [{"role": "user", "content": content}], "stream": place % 2 == 0}
            await r.http.post("/v1/chat/completions", json=body)

        await asyncio.gather(*(one(place) for place in range(24)))
        rows = await r.charges(24)
        for column, kind in (("prompt_tokens", "input"), ("completion_tokens", "output")):
            counted = await r.metric("pointsman_tokens_total", model="large", type=kind)
            assert counted == sum(row[column] or 0 for row in rows)
        spent = await r.metric("pointsman_cost_usd_total", model="large")
        assert round(spent * 1e9) == sum(row["cost_nano_usd"] or 0 for row in rows)


async def test_no_request_is_taken_when_its_charge_could_not_be_kept(rig: OpenRig, monkeypatch: Any) -> None:
    async with rig() as r:
        monkeypatch.setattr("gateway.ledger.store.WAITING_LIMIT", 0)
        with pytest.raises(APIStatusError) as caught:
            await r.client.chat.completions.create(model="auto", messages=[USER])
        assert caught.value.status_code == 503
        assert r.engines["large"].calls == []


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110  # the engine's counters are plain numbers
            await asyncio.sleep(0.005)


async def test_keys_that_cannot_be_read_are_a_503_and_not_a_verdict_on_the_key(rig: OpenRig) -> None:
    async with rig() as r:
        moved = r.runtime.settings.data_dir / "pointsman.db"
        await asyncio.to_thread(r.runtime.keys._database.dispose)
        await asyncio.to_thread(moved.rename, moved.with_suffix(".away"))
        await asyncio.to_thread(moved.mkdir)  # a folder where the file was: no new connection can be made
        response = await r.http.get("/v1/models")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "server_is_overloaded")
        assert response.headers["retry-after"] == "2"
        await asyncio.to_thread(moved.rmdir)
        await asyncio.to_thread(moved.with_suffix(".away").rename, moved)
        assert (await r.http.get("/v1/models")).status_code == 200


async def test_a_key_shown_from_this_machine_is_charged_to_its_holder_even_where_none_is_needed(rig: OpenRig) -> None:
    async with rig(open_loopback=True) as r:
        await r.client.chat.completions.create(model="small", messages=[USER])
        body = {"model": "small", "messages": [USER]}
        await r.http.post("/v1/chat/completions", json=body, headers={"authorization": ""})
        holder, nobody = await r.charges(2)
        assert holder["caller"].startswith("key_")
        assert nobody["caller"] == "loopback"
