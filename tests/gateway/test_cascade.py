"""A small model's answer that is looked at before the client sees it, through the front door."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIStatusError, AsyncStream

from gateway.cascade import NotReleased, released
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Call, EngineCut, EngineUnavailable, Reply
from models.scripted import Say, ScriptedEngine, Step, Wait
from prompts.message import template_key
from router.bar import Bar
from router.check import Check, Verifier
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from tests.gateway.wire import CHAT, OpenRig
from tests.rig import Rig

pytestmark = pytest.mark.anyio

TASK = {"role": "system", "content": "Answer in a word."}
ASKED = [TASK, {"role": "user", "content": "Up or down?"}]
SURE, UNSURE = Say("up", -0.01), Say("up", -2.0)
BY_MEAN = Verifier(bias=0.0, weights=(4.0, 0.0, 0.0, 0.0), means=(-1.0, 0.0, 0.0, 0.0), scales=(1.0,) * 4)


def check(*, hold_tokens: int | None = None, hold_seconds: float | None = None, by_beginning: bool = False) -> Check:
    return Check(BY_MEAN, 0.5, 0.8, "passed 80/80", hold_tokens, hold_seconds, by_beginning)


def knowing(
    *, hold_tokens: int = 4, hold_seconds: float = 10.0, by_beginning: bool = False
) -> Callable[[Catalog, Settings], Knowledge]:
    """Nothing is proved about the small model but what a check of its answers shows, for one template."""
    template = template_key({"messages": ASKED})
    assert template is not None

    def maker(catalog: Catalog, _: Settings) -> Knowledge:
        models = catalog.chatting
        checks = {
            (template, models[0].build, False): check(hold_seconds=hold_seconds),
            (template, models[0].build, True): check(
                hold_tokens=hold_tokens, hold_seconds=hold_seconds, by_beginning=by_beginning
            ),
        }
        return Knowledge(models, Evidence({}), Difficulty({}), {}, Bar(0.95, margin=0.1), checks)

    return maker


def saying(*steps: Step) -> Callable[[Call], Sequence[Step]]:
    return lambda call: steps


async def streamed(r: Rig, **more: object) -> tuple[str, str]:
    """The text, and the model that the headers name."""
    async with r.client.chat.completions.with_streaming_response.create(
        model="auto",
        messages=ASKED,  # type: ignore[arg-type]
        stream=True,
        extra_body=more,
    ) as raw:
        stream = await raw.parse()
        assert isinstance(stream, AsyncStream)
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        return text, raw.headers["x-pointsman-model"]


async def test_a_stream_says_how_much_of_it_was_held_back(rig: OpenRig) -> None:
    """Released or replaced; the rest of one that is released by its beginning was not."""
    for said in (SURE, UNSURE):
        async with rig(small=saying(*[said] * 6), knowledge_maker=knowing(by_beginning=True)) as r:
            body = {"model": "auto", "messages": ASKED, "stream": True}
            assert (await r.http.post(CHAT, json=body)).headers["x-pointsman-held"] == "first-4-tokens"
            whole = await r.http.post(CHAT, json=body, headers={"x-pointsman-hold": "whole"})
            assert whole.headers["x-pointsman-held"] == "whole"
            named = await r.http.post(CHAT, json={**body, "model": "small"})
            assert "x-pointsman-held" not in named.headers


async def test_who_wants_nothing_held_back_gets_no_checked_answer(rig: OpenRig) -> None:
    async with rig(small=saying(SURE), knowledge_maker=knowing()) as r:
        for stream in (False, True):
            body = {"model": "auto", "messages": ASKED, "stream": stream}
            response = await r.http.post(CHAT, json=body, headers={"x-pointsman-hold": "none"})
            assert response.headers["x-pointsman-model"] == "large"
        assert r.engines["small"].calls == []


async def test_an_answer_that_passes_its_check_is_the_clients(rig: OpenRig) -> None:
    async with rig(small=saying(SURE), knowledge_maker=knowing()) as r:
        raw = await r.client.chat.completions.with_raw_response.create(model="auto", messages=ASKED)  # type: ignore[arg-type]
        assert raw.headers["x-pointsman-model"] == "small"
        assert (raw.headers["x-pointsman-basis"], raw.headers["x-pointsman-check"]) == ("check", "passed")
        assert raw.headers["x-pointsman-held"] == "whole"
        choice = raw.parse().choices[0]
        assert (choice.message.content, choice.logprobs) == ("up", None)
        assert r.engines["large"].calls == []
        [row] = await r.charges(1)
        assert (row["model"], row["basis"], row["discarded_tokens"], row["attempts"]) == ("small", "check", None, 1)


async def test_one_that_fails_is_replaced_and_charged_all_the_same(rig: OpenRig) -> None:
    async with rig(small=saying(UNSURE), knowledge_maker=knowing()) as r:
        raw = await r.client.chat.completions.with_raw_response.create(model="auto", messages=ASKED)  # type: ignore[arg-type]
        assert raw.parse().choices[0].message.content == "large answer"
        assert (raw.headers["x-pointsman-passed-over"], raw.headers["x-pointsman-check"]) == ("small", "failed")
        [row] = await r.charges(1)
        large_alone = await r.client.chat.completions.create(model="large", messages=ASKED)  # type: ignore[arg-type]
        assert large_alone.usage is not None
        assert (row["model"], row["completion_tokens"]) == ("large", large_alone.usage.completion_tokens)
        assert (row["discarded_tokens"], row["attempts"]) == (1, 2)
        [alone] = [row for row in await r.charges(2) if row["asked"] == "large"]
        assert row["cost_nano_usd"] > alone["cost_nano_usd"]
        assert row["safe_cost_nano_usd"] == alone["safe_cost_nano_usd"]
        assert await r.metric("pointsman_discarded_tokens_total", model="small") == 1


async def test_streams_are_held_back_and_then_released_or_replaced(rig: OpenRig) -> None:
    async with rig(small=saying(SURE), knowledge_maker=knowing()) as r:
        assert await streamed(r) == ("up", "small")
    async with rig(small=saying(UNSURE), knowledge_maker=knowing()) as r:
        assert await streamed(r) == ("large answer", "large")
        assert await r.metric("pointsman_discarded_tokens_total", model="small") == 1


async def test_a_stream_that_goes_on_beyond_what_is_held_back_is_replaced(rig: OpenRig) -> None:
    """As in the calibration, where such answers counted as not released; the small engine stops working."""
    async with rig(small=saying(*[SURE] * 50), knowledge_maker=knowing(hold_tokens=4)) as r:
        assert await streamed(r) == ("large answer", "large")
        assert r.engines["small"].abandoned == 1
        [row] = await r.charges(1)
        assert row["discarded_tokens"] < 50


async def test_a_stream_is_released_or_replaced_by_its_beginning_alone(rig: OpenRig) -> None:
    """What comes after it is passed on as it comes; the engine of a replaced one stops."""
    sure, unsure = [SURE] * 4 + [UNSURE] * 20, [UNSURE] * 4 + [SURE] * 20
    async with rig(small=saying(*sure), knowledge_maker=knowing(by_beginning=True)) as r:
        assert await streamed(r) == ("up" * 24, "small")
        [row] = await r.charges(1)
        assert (row["completion_tokens"], row["discarded_tokens"]) == (24, None)
    async with rig(small=saying(*unsure), knowledge_maker=knowing(by_beginning=True)) as r:
        assert await streamed(r) == ("large answer", "large")
        assert r.engines["small"].abandoned == 1


async def test_nobody_waits_longer_than_the_settings_say(rig: OpenRig) -> None:
    async with rig(small=saying(SURE, Wait()), knowledge_maker=knowing(hold_seconds=0.05)) as r:
        assert await streamed(r) == ("large answer", "large")
        answer = await r.client.chat.completions.create(model="auto", messages=ASKED)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "large answer"
        assert r.engines["small"].abandoned == 2


async def test_log_probabilities_are_shown_as_they_were_asked_for(rig: OpenRig) -> None:
    async with rig(small=saying(SURE), knowledge_maker=knowing()) as r:
        asked = await r.client.chat.completions.create(
            model="auto",
            messages=ASKED,  # type: ignore[arg-type]
            logprobs=True,
            top_logprobs=1,
        )
        logprobs = asked.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert [(t.logprob, len(t.top_logprobs)) for t in logprobs.content] == [(-0.01, 1)]
        [call] = r.engines["small"].calls
        assert call.body["top_logprobs"] == 2


async def test_what_cannot_be_looked_at_goes_to_the_safe_tier(rig: OpenRig) -> None:
    """Several choices would need a check each; another template has none."""
    async with rig(small=saying(SURE), knowledge_maker=knowing()) as r:
        decided = await r.http.post("/v1/decision", json={"model": "auto", "messages": ASKED, "n": 2})
        assert (decided.json()["model"], decided.json()["basis"]) == ("large", "safe")
        other = [{"role": "system", "content": "Another task."}, ASKED[1]]
        decided = await r.http.post("/v1/decision", json={"model": "auto", "messages": other})
        assert decided.json()["model"] == "large"
        decided = await r.http.post("/v1/decision", json={"model": "auto", "messages": ASKED})
        assert decided.json()["order"] == ["small", "large"]
        assert decided.json()["candidates"][0]["check"]["score"] == 0.5


@pytest.mark.parametrize("text", ["I'm sorry, but I can't help with that.", ""])
async def test_a_refusal_or_nothing_at_all_is_no_answer(rig: OpenRig, text: str) -> None:
    async with rig(small=saying(Say(text, -0.01)), knowledge_maker=knowing()) as r:
        answer = await r.client.chat.completions.create(model="auto", messages=ASKED)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "large answer"


async def test_an_answer_that_is_not_the_json_asked_for_is_replaced(rig: OpenRig) -> None:
    """The template is another one with a response format, so the check is called by itself."""
    call = Call({"messages": ASKED, "response_format": {"type": "json_object"}})
    assert (await released(engine(Say('{"a": 1}', -0.01)), call, check())).first
    with pytest.raises(NotReleased):
        await released(engine(Say("{'a': 1", -0.01)), call, check())


async def test_an_answer_that_breaks_the_schema_asked_for_is_replaced() -> None:
    schema = {"type": "object", "required": ["a"]}
    asked = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    call = Call({"messages": ASKED, "response_format": asked})
    assert (await released(engine(Say('{"a": 1}', -0.01)), call, check())).first
    with pytest.raises(NotReleased):
        await released(engine(Say('{"b": 1}', -0.01)), call, check())


async def test_an_engine_that_breaks_off_while_held_back_is_one_that_never_began(rig: OpenRig) -> None:
    async with rig(small=saying(SURE, EngineCut("broke")), knowledge_maker=knowing()) as r:
        assert await streamed(r) == ("large answer", "large")
        assert await r.metric("pointsman_engine_in_flight_requests", model="small") == 0


async def test_when_the_safe_tier_fails_nobody_gets_an_answer_that_failed_its_check(rig: OpenRig) -> None:
    broken = saying(EngineUnavailable("no power"))
    async with rig(small=saying(UNSURE), large=broken, knowledge_maker=knowing()) as r:
        with pytest.raises(APIStatusError) as refused:
            await r.client.chat.completions.create(model="auto", messages=ASKED)  # type: ignore[arg-type]
        assert refused.value.status_code == 503
        [row] = await r.charges(1)
        assert (row["outcome"], row["discarded_tokens"]) == ("failed", 1)


def engine(*steps: Step) -> ScriptedEngine:
    return ScriptedEngine("small", saying(*steps))


@given(
    said=st.lists(st.text(max_size=5), min_size=1, max_size=8),
    streamed=st.booleans(),
    include_usage=st.booleans(),
    shown=st.none() | st.integers(0, 3),
)
def test_a_released_answer_says_what_the_model_said(
    said: list[str], streamed: bool, include_usage: bool, shown: int | None
) -> None:
    """Held back or not, the client reads the same: text, reason of the end, counts, and log-probabilities if asked."""
    asked = {} if shown is None else {"logprobs": True, "top_logprobs": shown}
    call = Call({"messages": ASKED, **asked}, streamed, include_usage=include_usage)
    steps = [Say(f"x{text}", -0.01) for text in said]

    async def both() -> tuple[list[object], list[object]]:
        direct = await engine(*steps).begin(call)
        held = await released(engine(*steps), call, replace(check(), score=0.0))
        return await _read(direct, streamed), await _read(held, streamed)

    direct, held = asyncio.run(both())
    assert held == direct


async def _read(reply: Reply, streamed: bool) -> list[object]:
    blocks = [reply.first]
    while block := await reply.more():
        blocks.append(block)
    await reply.close()
    if not streamed:
        return [orjson.loads(block) for block in blocks]
    documents = [orjson.loads(event[6:]) for block in blocks for event in block.split(b"\n\n") if event]
    for document in documents:
        for choice in document["choices"]:
            choice["logprobs"] = choice.get("logprobs")
    return documents
