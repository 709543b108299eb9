"""A small model's answer that the client sees because a second, smaller one says the same; through the front door."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import httpx2
import orjson
import pytest
from openai import AsyncStream

from gateway.keys import Grant
from gateway.limits.budgets import Limits
from gateway.limits.policy import worst_case
from gateway.schema import parse_chat
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Call, EngineCut, EngineRefused, EngineUnavailable
from models.scripted import Say, Script, ScriptedEngine, Step, Wait
from prompts.message import template_key
from router.bar import Bar, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.opinion import SecondOpinion
from router.transcript import decided_again, is_same
from tests.gateway.wire import CHAT, OpenRig, error_of, until
from tests.rig import CATALOG, Rig

pytestmark = pytest.mark.anyio

ASKED: list[Any] = [
    {"role": "system", "content": "Answer in a word."},
    {"role": "user", "content": "Up or down?"},
]
AS_JSON = {"type": "json_object"}
TINY = """
  - name: tiny
    engine: scripted
    tier: 0
    context_tokens: 1000
    price: {input_usd: "0.01", output_usd: "0.02"}
"""
# The tiny one first: it is asked about the answers of those above it.
THREE = (
    CATALOG.replace("models:", f"models:{TINY}")
    .replace("tier: 1", "tier: 2")
    .replace("name: small\n    engine: scripted\n    tier: 0", "name: small\n    engine: scripted\n    tier: 1")
)
ENOUGH = 40  # complaints that end any trust
OPEN = Tally(passed=30, total=40, lost=6, won=3, paired=40)  # proves nothing of the small model alone
BODY = orjson.dumps({"model": "auto", "messages": ASKED, "max_tokens": 10})


def knowing(grade: str = "exact", hold_seconds: float = 10.0) -> Callable[[Catalog, Settings], Knowledge]:
    """Nothing is proved but that the small model is right where the tiny one agrees, for two templates."""
    templates = [template_key({"messages": ASKED}), template_key({"messages": ASKED, "response_format": AS_JSON})]

    def maker(catalog: Catalog, _: Settings) -> Knowledge:
        second, small, _large = models = catalog.chatting
        opinion = SecondOpinion(second.build, grade, 0.8, "passed 80/80", hold_seconds)
        keys = [(template or "", small.build) for template in templates]
        evidence, bar = Evidence(dict.fromkeys(keys, OPEN)), Bar(0.95, margin=0.1)
        return Knowledge(models, evidence, Difficulty({}), {}, bar, second_opinions=dict.fromkeys(keys, (opinion,)))

    return maker


def saying(*steps: Step | str) -> Callable[[Call], Script]:
    return lambda call: [Say(step) if isinstance(step, str) else step for step in steps]


def tiny(*steps: Step | str) -> dict[str, Any]:
    """What a rig needs for a third model that says that."""
    return {"others": {"tiny": ScriptedEngine("tiny", saying(*steps))}, "catalog": THREE}


async def answered(r: Rig, **more: Any) -> tuple[str | None, dict[str, str]]:
    raw = await r.client.chat.completions.with_raw_response.create(model="auto", messages=ASKED, **more)
    headers = {name.removeprefix("x-pointsman-"): value for name, value in raw.headers.items()}
    return raw.parse().choices[0].message.content, headers


async def test_an_answer_that_the_second_model_agrees_with_is_the_clients(rig: OpenRig) -> None:
    """Its tokens are in the cost, and shown as seen by nobody."""
    async with rig(small=saying("Up", "."), knowledge_maker=knowing(), **tiny("up")) as r:
        text, headers = await answered(r)
        assert (text, headers["model"], headers["basis"]) == ("Up.", "small", "check")
        assert (headers["check"], headers["held"]) == ("passed; second=tiny", "whole")
        assert "tiny says the same" in headers["reason"]
        assert r.engines["large"].calls == []
        [row] = await r.charges(1)
        assert (row["model"], row["completion_tokens"], row["discarded_tokens"], row["attempts"]) == ("small", 2, 1, 1)
        prompt_tokens = row["prompt_tokens"]
        small, second = prompt_tokens * 100 + 2 * 200, prompt_tokens * 10 + 1 * 20  # nano-USD
        assert row["cost_nano_usd"] == small + second
        assert await r.metric("pointsman_discarded_tokens_total", model="tiny") == 1


async def test_one_that_it_does_not_agree_with_is_replaced_and_both_are_paid(rig: OpenRig) -> None:
    async with rig(small=saying("up"), knowledge_maker=knowing(), **tiny("down")) as r:
        text, headers = await answered(r)
        assert (text, headers["model"]) == ("large answer", "large")
        assert (headers["check"], headers["passed-over"]) == ("failed; second=tiny", "small")
        [row] = await r.charges(1)
        assert (row["discarded_tokens"], row["attempts"]) == (2, 2)
        await r.client.chat.completions.create(model="large", messages=ASKED)
        [alone] = [other for other in await r.charges(2) if other["asked"] == "large"]
        tokens = row["prompt_tokens"]
        assert row["cost_nano_usd"] == alone["cost_nano_usd"] + tokens * 110 + 220


@pytest.mark.parametrize(
    "step",
    [EngineUnavailable("no power"), EngineRefused("no", status=400), EngineCut("broke"), RuntimeError("a bug"), ""],
)
async def test_without_a_second_opinion_the_safe_tier_answers(rig: OpenRig, step: Any) -> None:
    """A fault of the second model is nobody's failed request."""
    second = {"others": {"tiny": ScriptedEngine("tiny", _raising(step))}, "catalog": THREE}
    async with rig(small=saying("up"), knowledge_maker=knowing(), **second) as r:
        text, headers = await answered(r)
        assert (text, headers["check"]) == ("large answer", "failed; second=tiny")


def _raising(step: Any) -> Callable[[Call], Script]:
    def script(call: Call) -> Script:
        if isinstance(step, RuntimeError):
            raise step
        return [Say(step)] if isinstance(step, str) else [step]

    return script


async def test_nobody_waits_for_it_longer_than_the_settings_say(rig: OpenRig) -> None:
    async with rig(small=saying("up"), knowledge_maker=knowing(hold_seconds=0.05), **tiny(Wait())) as r:
        assert (await answered(r))[0] == "large answer"
        assert r.runtime.engines["tiny"].in_flight == 0
        [row] = await r.charges(1)
        assert row["discarded_tokens"] == 1  # the small one's; what the other had done nobody has counted


async def test_both_are_asked_at_the_same_time(rig: OpenRig) -> None:
    asked = asyncio.Event()

    def second(call: Call) -> Script:
        asked.set()
        return [Say("up")]

    engines = {"others": {"tiny": ScriptedEngine("tiny", second)}, "catalog": THREE}
    async with rig(small=saying(Wait(asked), "up"), knowledge_maker=knowing(), **engines) as r:
        assert (await answered(r))[0] == "up"


async def test_the_second_model_stops_when_the_first_one_fails_or_says_nothing(rig: OpenRig) -> None:
    for step in (EngineUnavailable("no power"), ""):
        second = ScriptedEngine("tiny", saying(Wait()))
        engines = {"others": {"tiny": second}, "catalog": THREE}
        async with rig(small=saying(step), knowledge_maker=knowing(), **engines) as r:
            assert (await answered(r))[0] == "large answer"
            assert r.runtime.engines["tiny"].in_flight == 0


async def test_when_the_client_leaves_both_stop(rig: OpenRig) -> None:
    second = ScriptedEngine("tiny", saying(Wait()))
    engines = {"others": {"tiny": second}, "catalog": THREE}
    async with rig(small=saying(Wait()), knowledge_maker=knowing(), **engines) as r:
        leaving = asyncio.create_task(r.http.post(CHAT, json={"model": "auto", "messages": ASKED}))
        await until(lambda: bool(second.calls) and bool(r.engines["small"].calls))
        leaving.cancel()
        await until(lambda: second.abandoned == 1 and r.engines["small"].abandoned == 1)


async def test_the_second_model_is_asked_the_same_and_not_for_what_it_is_not_shown_for(rig: OpenRig) -> None:
    second = ScriptedEngine("tiny", saying("up"))
    engines = {"others": {"tiny": second}, "catalog": THREE}
    async with rig(small=saying("up"), knowledge_maker=knowing(), **engines) as r:
        text, _ = await answered(r, temperature=0.3, max_tokens=7, metadata={"mine": "1"})
        assert text == "up"
        [call] = second.calls
        assert (call.body["messages"], call.body["temperature"], call.body["max_tokens"]) == (ASKED, 0.3, 7)
        assert not call.stream
        assert {"metadata", "stream", "logprobs"}.isdisjoint(call.body)
        [first] = r.engines["small"].calls
        assert "logprobs" not in first.body


async def test_it_is_compared_as_the_grader_of_its_template_reads_it(rig: OpenRig) -> None:
    async with rig(small=saying("I think 4 and then 12"), knowledge_maker=knowing("number"), **tiny("12.0")) as r:
        assert (await answered(r))[1]["model"] == "small"
    async with rig(small=saying("12"), knowledge_maker=knowing("number"), **tiny("none")) as r:
        assert (await answered(r))[1]["model"] == "large"


async def streamed(r: Rig, **more: Any) -> tuple[str, dict[str, str]]:
    async with r.client.chat.completions.with_streaming_response.create(
        model="auto", messages=ASKED, stream=True, **more
    ) as raw:
        stream = await raw.parse()
        assert isinstance(stream, AsyncStream)
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        return text, {name.removeprefix("x-pointsman-"): value for name, value in raw.headers.items()}


async def test_a_stream_is_held_back_whole_only_where_that_is_wished_or_a_form_is_asked_for(rig: OpenRig) -> None:
    whole = {"extra_headers": {"x-pointsman-hold": "whole"}}
    async with rig(small=saying("u", "p"), knowledge_maker=knowing(), **tiny("up")) as r:
        text, headers = await streamed(r)
        assert (text, headers["basis"], headers.get("held")) == ("large answer", "safe", None)
        text, headers = await streamed(r, **whole)
        assert (text, headers["model"], headers["held"]) == ("up", "small", "whole")
        assert headers["check"] == "passed; second=tiny"
    async with rig(small=saying('{"a"', ": 1}"), knowledge_maker=knowing(), **tiny('{"a": 1}')) as r:
        text, headers = await streamed(r, response_format=AS_JSON)
        assert (text, headers["model"], headers["held"]) == ('{"a": 1}', "small", "whole")
        first = {"extra_headers": {"x-pointsman-hold": "first"}}
        assert (await streamed(r, response_format=AS_JSON, **first))[1]["model"] == "large"


async def test_complaints_about_what_was_released_take_the_trust_away(rig: OpenRig) -> None:
    """They count against the model that answered, as everywhere; its alarm ends second opinions on it."""
    async with rig(small=saying("up"), knowledge_maker=knowing(), **tiny("up")) as r:
        ids = [(await answered(r))[1] for _ in range(ENOUGH)]
        assert {headers["model"] for headers in ids} == {"small"}
        for headers in ids:
            told = {"request_id": headers["x-request-id"], "name": "correct", "value": False}
            assert (await r.http.post("/v1/feedback", json=told)).status_code == 200
        await r.builder.count()
        await r.builder.learn()
        _, headers = await answered(r)
        assert headers["model"] == "large"
        assert "suspended (pass_rate_fell)" in headers["reason"]


async def test_the_kept_decision_is_made_again_to_the_identical_choice(rig: OpenRig) -> None:
    async with rig(small=saying("up"), knowledge_maker=knowing(), **tiny("up")) as r:
        await answered(r)
        [row] = await r.charges(1)
        document = orjson.loads(row["decision"])
        again = decided_again(document)
        assert again is not None
        assert is_same(again, document)
        assert (again.order, again.second, document["second"]) == (("small", "large"), "tiny", "tiny")


async def test_who_may_not_use_the_second_model_gets_the_safe_tier(rig: OpenRig) -> None:
    """Its answer is nobody's, and its work would still be theirs."""
    async with rig(small=saying("up"), knowledge_maker=knowing(), **tiny("up")) as r:
        response = await as_granted(r, Grant(models=frozenset({"small", "large"})))
        assert response.headers["x-pointsman-model"] == "large"
        assert (await as_granted(r, Grant())).headers["x-pointsman-model"] == "small"


async def test_a_budget_has_room_for_all_three_answers_or_nobody_is_called(rig: OpenRig) -> None:
    async with rig(small=saying("up"), knowledge_maker=knowing(), **tiny("up")) as r:
        asked = parse_chat(BODY, r.runtime.catalog)
        second, small, large = r.runtime.catalog.chatting
        worst = worst_case(asked.body, asked.body_bytes, [small, large], [small, second]).nano_usd()
        refused = await as_granted(r, Grant(limits=Limits(day_nano_usd=worst - 1)))
        assert refused.status_code == 429
        assert r.engines["small"].calls == r.engines["large"].calls == []
        assert (await as_granted(r, Grant(limits=Limits(day_nano_usd=worst)))).status_code == 200


async def as_granted(r: Rig, grant: Grant) -> httpx2.Response:
    """The answer to somebody with a key of that kind."""
    key, _ = await anyio.to_thread.run_sync(r.runtime.keys.create, "another", grant)
    return await r.http.post(CHAT, content=BODY, headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize("hold", ["first", "whole"])
async def test_an_answer_that_is_not_streamed_is_looked_at_whole(rig: OpenRig, hold: str) -> None:
    async with rig(small=saying("up"), knowledge_maker=knowing(), **tiny("up")) as r:
        _, headers = await answered(r, extra_headers={"x-pointsman-hold": hold})
        assert (headers["model"], headers["held"]) == ("small", "whole")


@pytest.mark.parametrize("stream", [False, True])
async def test_who_wants_nothing_held_back_gets_the_safe_tier_at_once(rig: OpenRig, stream: bool) -> None:
    async with rig(small=saying("up"), knowledge_maker=knowing(), **tiny("up")) as r:
        body = {"model": "auto", "messages": ASKED, "stream": stream}
        response = await r.http.post(CHAT, json=body, headers={"x-pointsman-hold": "none"})
        assert response.headers["x-pointsman-model"] == "large"
        assert {"x-pointsman-held", "x-pointsman-check"}.isdisjoint(response.headers)
        assert r.engines["small"].calls == []


async def test_another_wish_for_holding_back_is_refused_in_the_shape_of_each_protocol(rig: OpenRig) -> None:
    async with rig() as r:
        wrong = {"x-pointsman-hold": "half"}
        body = {"model": "auto", "messages": ASKED[1:], "max_tokens": 5}
        response = await r.http.post(CHAT, json=body, headers=wrong)
        assert response.status_code == 400
        error = error_of(response)
        assert (error["param"], error["type"]) == ("x-pointsman-hold", "invalid_request_error")
        assert "none, first, whole" in error["message"]
        response = await r.http.post("/v1/messages", json=body, headers=wrong)
        assert response.status_code == 400
        assert response.json()["type"] == "error"
        assert "x-pointsman-hold" in response.json()["error"]["message"]
        assert r.engines["small"].calls == r.engines["large"].calls == []
