"""Shadows through the front door: the client always gets the safe tier's answer, and a cheaper model earns trust."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk

from gateway.dispatch import Dispatcher
from gateway.learning import aside
from gateway.learning import shadows as module
from gateway.learning.purse import EXPLORER
from gateway.learning.section import LearningSection, SimilarTo
from gateway.learning.shadows import ANSWER_FACTOR, ANSWER_TOKENS, WORTH_ASKING, Result
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Call, EngineRefused, EngineUnavailable
from models.scripted import Say, Script, ScriptedEngine, Wait
from prompts.message import template_key
from router.bar import Bar, Tally
from router.decision import Knowledge, Mode
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.record import Record
from router.sources import Source
from tests.gateway.wire import CHAT, OpenRig, chat, until
from tests.rig import CATALOG, Rig, say

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "system", "content": "Name the capital."}, {"role": "user", "content": "Of France?"}]
BODY: dict[str, Any] = {"model": "auto", "messages": MESSAGES}
TEMPLATE = template_key(BODY) or ""
ALL = LearningSection(explore_usd_per_day=Decimal(1), explore_share=1.0)
SPACIOUS = CATALOG.replace("tier: 0", "tier: 0\n    parallel: 8").replace("tier: 1", "tier: 1\n    parallel: 8")


FILE = f"file: {{sha256: {'a' * 64}, size_bytes: 1, sources: [{{hub: a/b, filename: x.gguf}}]}}"
LAPTOP = f"""
models:
  - {{name: small, engine: llamacpp, tier: 0, context_tokens: 1000, parallel: 8, {FILE}}}
  - {{name: large, engine: llamacpp, tier: 1, context_tokens: 2000, parallel: 8, {FILE}}}
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template is worth a shadow from its first drawn request on; the test of that says otherwise."""
    monkeypatch.setattr(module, "WORTH_ASKING", 1)


def unproved(catalog: Catalog, settings: Settings) -> Knowledge:
    return Knowledge(tuple(catalog.chatting), Evidence({}), Difficulty({}), {}, Bar(0.95, pass_rate=0.9))


def knowing(tally: Tally) -> Any:
    def make(catalog: Catalog, settings: Settings) -> Knowledge:
        models = tuple(catalog.chatting)
        return Knowledge(
            models, Evidence({(TEMPLATE, models[0].build): tally}), Difficulty({}), {}, Bar(0.95, pass_rate=0.9)
        )

    return make


async def ask(r: Rig, headers: Mapping[str, str] | None = None, **fields: Any) -> str:
    """The answer of the safe tier, which it must be."""
    response = await r.http.post(CHAT, json={**BODY, **fields}, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["x-pointsman-model"] == "large"
    return response.text


async def streamed(r: Rig) -> AsyncStream[ChatCompletionChunk]:
    messages: Any = MESSAGES
    return await r.client.chat.completions.create(model="auto", messages=messages, stream=True)


async def settled(r: Rig, live: int = 0) -> None:
    """Every answer of the safe tier but *live* ones has been looked at, and no shadow runs."""
    large = r.runtime.engines["large"]
    await until(lambda: large.in_flight == live and r.runtime.watch.shadows.rests, 5)


async def asked(r: Rig, times: int = 1, **fields: Any) -> None:
    for _ in range(times):
        await ask(r, **fields)
        await settled(r)


async def results(r: Rig) -> dict[str, int]:
    counted = {
        result.value: await r.metric("pointsman_shadows_total", model="small", result=result) for result in Result
    }
    return {result: int(count) for result, count in counted.items() if count}


async def shadows_told(r: Rig, template: str = TEMPLATE) -> Tally:
    await r.builder.learn()
    found = await anyio.to_thread.run_sync(lambda: list(r.runtime.records.read(template=template)))
    record: Record | None = next((kept.record for kept in found), None)
    return record.generations[0].tallies.get(Source.SHADOW, Tally()) if record else Tally()


def counts(total: int, passed: int) -> Tally:
    return Tally(passed=passed, total=total, lost=total - passed, paired=total)


# What comes of it


async def test_a_model_that_says_the_same_earns_trust_and_then_serves(rig: OpenRig) -> None:
    async with rig(small=say("paris"), large=say("Paris."), knowledge_maker=unproved, learning=ALL) as r:
        for _ in range(400):
            response = await r.http.post(CHAT, json=BODY)
            if response.headers["x-pointsman-model"] == "small":
                break
            assert response.json()["choices"][0]["message"]["content"] == "Paris."
            await settled(r)
            await r.builder.learn()
        assert response.headers["x-pointsman-basis"] == "evidence"
        asked_before = len(r.engines["small"].calls)
        assert (await r.http.post(CHAT, json=BODY)).headers["x-pointsman-model"] == "small"
        assert len(r.engines["small"].calls) == asked_before + 1  # what is decided is not shadowed
        assert (await shadows_told(r)).passed == (await results(r))["same"]


async def test_a_model_that_says_something_else_loses_each_pair(rig: OpenRig) -> None:
    async with rig(small=say("Lyon"), large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        await asked(r, 5)
        assert await results(r) == {"different": 5}
        assert await shadows_told(r) == counts(5, 0)


async def test_a_model_that_agrees_too_seldom_is_not_ruled_out_and_costs_no_more(rig: OpenRig) -> None:
    """It may be the one that is right."""
    async with rig(small=say("Lyon"), large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        for _ in range(30):
            await asked(r)
            await r.builder.learn()
        sent = len(r.engines["small"].calls)
        assert sent < 30
        response = await r.http.post(CHAT, json=BODY)
        assert response.headers["x-pointsman-basis"] == "safe"
        await settled(r)
        assert len(r.engines["small"].calls) == sent


async def test_the_same_is_asked_of_the_cheaper_model_whole_and_no_longer_than_it_makes_sense(rig: OpenRig) -> None:
    async with rig(small=say("Paris"), large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        await asked(r, temperature=0.5, metadata={"a": "b"}, store=True)
        await asked(r, max_completion_tokens=7)
        first, second = r.engines["small"].calls
        most = ANSWER_FACTOR * 1 + ANSWER_TOKENS
        assert first.body == {"model": "auto", "messages": MESSAGES, "temperature": 0.5, "max_tokens": most}
        assert second.body["max_completion_tokens"] == 7
        assert not first.stream
        assert first.priority > 10


async def test_a_stream_is_not_held_back_and_what_it_said_is_compared(rig: OpenRig) -> None:
    gate = asyncio.Event()

    def large(call: Call) -> Script:
        return [Say("Pa"), Wait(gate), Say("ris")]

    async with rig(small=say("Paris"), large=large, knowledge_maker=unproved, learning=ALL) as r:
        stream = await streamed(r)
        first = await anext(aiter(stream))
        assert first.choices[0].delta.content == "Pa"
        assert r.engines["small"].calls == []
        gate.set()
        async for _ in stream:
            pass
        await until(lambda: len(r.engines["small"].calls) == 1)
        await settled(r)
        assert await shadows_told(r) == counts(1, 1)


async def test_a_stream_whose_client_leaves_is_not_compared(rig: OpenRig) -> None:
    def large(call: Call) -> Script:
        return [Say("Pa"), Wait()]

    async with rig(large=large, knowledge_maker=unproved, learning=ALL) as r:
        stream = await streamed(r)
        await anext(aiter(stream))
        await stream.close()
        await r.charges(1)
        assert r.engines["small"].calls == []


async def test_the_client_does_not_wait_for_the_cheaper_model(rig: OpenRig) -> None:
    gate = asyncio.Event()

    def small(call: Call) -> Script:
        return [Wait(gate), Say("Paris")]

    async with rig(small=small, large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        await ask(r)
        await until(lambda: len(r.engines["small"].calls) == 1)
        await ask(r)  # while it works: another one is dropped, not queued
        await until(lambda: r.runtime.engines["large"].in_flight == 0)
        gate.set()
        await settled(r)
        assert await results(r) == {"busy": 1, "same": 1}


# Which are drawn


@pytest.mark.parametrize(
    "fields",
    [
        {"store": False},
        {"n": 2},
        {"logprobs": True},
        {"tools": [{"type": "function", "function": {"name": "look"}}]},
        {"functions": [{"name": "look"}]},
        {"model": "large"},
        {"messages": MESSAGES[1:]},
        {"web_search_options": {}},
    ],
)
async def test_what_cannot_be_compared_or_may_not_be_is_not_drawn(rig: OpenRig, fields: dict[str, Any]) -> None:
    async with rig(knowledge_maker=unproved, learning=ALL) as r:
        await asked(r, 2, **fields)
        assert (r.engines["small"].calls, await results(r)) == ([], {})


@pytest.mark.parametrize(("said", "sent"), [("off", 0), ("OFF", 0), ("no", 0), ("on", 1)])
async def test_a_caller_may_withhold_a_request(rig: OpenRig, said: str, sent: int) -> None:
    async with rig(knowledge_maker=unproved, learning=ALL) as r:
        await ask(r, {"x-pointsman-shadow": said})
        await settled(r)
        assert len(r.engines["small"].calls) == sent


async def test_a_response_that_is_not_to_be_stored_is_not_shadowed(rig: OpenRig) -> None:
    async with rig(knowledge_maker=unproved, learning=ALL) as r:
        for store, sent in ((False, 0), (True, 1)):
            body = {"model": "auto", "instructions": "Name the capital.", "input": "Of France?", "store": store}
            assert (await r.http.post("/v1/responses", json=body)).status_code == 200
            await settled(r)
            assert len(r.engines["small"].calls) == sent


async def test_a_key_that_may_not_use_the_cheaper_model_does_not_send_it_anything(rig: OpenRig) -> None:
    from gateway.keys import Grant

    async with rig(knowledge_maker=unproved, learning=ALL) as r:
        key, _ = await anyio.to_thread.run_sync(
            lambda: r.runtime.keys.create("bound", Grant(models=frozenset({"large"})))
        )
        response = await r.http.post(CHAT, json=BODY, headers={"authorization": f"Bearer {key}"})
        assert response.headers["x-pointsman-model"] == "large"
        await settled(r)
        assert r.engines["small"].calls == []


@pytest.mark.parametrize(
    ("tally", "sent"), [(Tally(total=100), 0), (Tally(passed=9, total=10, paired=10), 1)], ids=["failed", "open"]
)
async def test_only_what_is_open_is_explored(rig: OpenRig, tally: Tally, sent: int) -> None:
    async with rig(knowledge_maker=knowing(tally), learning=ALL) as r:
        await asked(r)
        assert len(r.engines["small"].calls) == sent


@pytest.mark.parametrize(("mode", "sent"), [(Mode.APPLY, 1), (Mode.OBSERVE, 1), (Mode.OFF, 0)])
async def test_the_modes(rig: OpenRig, mode: Mode, sent: int) -> None:
    learning = ALL.model_copy(update={"modes": {TEMPLATE: mode}})
    async with rig(knowledge_maker=unproved, learning=learning) as r:
        await asked(r)
        assert len(r.engines["small"].calls) == sent


async def test_a_template_that_is_asked_a_few_times_gets_no_record(
    rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record makes the next one harder to prove; a million system messages must not."""
    monkeypatch.setattr(module, "WORTH_ASKING", WORTH_ASKING)
    async with rig(knowledge_maker=unproved, learning=ALL) as r:
        await asked(r, WORTH_ASKING - 1)
        assert r.engines["small"].calls == []
        await asked(r)
        assert len(r.engines["small"].calls) == 1


async def test_nothing_is_drawn_at_a_share_of_nothing(rig: OpenRig) -> None:
    async with rig(knowledge_maker=unproved, learning=ALL.model_copy(update={"explore_share": 0.0})) as r:
        await asked(r, 3)
        assert await results(r) == {}


async def test_requests_of_a_group_earn_for_the_group(rig: OpenRig) -> None:
    def dated(day: int) -> list[dict[str, str]]:
        return [{"role": "system", "content": f"Name the capital. Today is 2026-11-{day:02d}."}, MESSAGES[1]]

    async with rig(small=say("Paris"), large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        group = (await r.http.post("/v1/decision", json={"model": "auto", "messages": dated(1)})).json()["group"]
        for day in (1, 2, 3):
            await asked(r, messages=dated(day))
        assert await shadows_told(r, group) == counts(3, 3)


# How it is compared


@pytest.mark.parametrize(
    ("how", "small", "large", "result"),
    [
        ("number", "It is 5.", "So: 5", "same"),
        ("number", "It is 5.", "five", "incomparable"),
        ("exact", "It is 5.", "5", "different"),
        ("json", '{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "same"),
        ("none", "5", "5", None),
    ],
)
async def test_the_owner_chooses_how_a_template_is_compared(
    rig: OpenRig, how: str, small: str, large: str, result: str | None
) -> None:
    learning = ALL.model_copy(update={"compare": {TEMPLATE: how}})
    async with rig(small=say(small), large=say(large), knowledge_maker=unproved, learning=learning) as r:
        await asked(r)
        assert await results(r) == ({result: 1} if result else {})


async def test_json_that_was_asked_for_is_compared_as_json(rig: OpenRig) -> None:
    form: dict[str, Any] = {"response_format": {"type": "json_object"}}
    async with rig(small=say('{"a":1}'), large=say('{ "a": 1 }'), knowledge_maker=unproved, learning=ALL) as r:
        await asked(r, **form)
        assert await results(r) == {"same": 1}


@pytest.mark.parametrize("compare", [{}, {TEMPLATE: SimilarTo(similar=0.5)}], ids=["not chosen", "no embedder"])
async def test_long_answers_are_not_compared_by_themselves(rig: OpenRig, compare: dict[str, Any]) -> None:
    text = "word " * 50
    learning = ALL.model_copy(update={"compare": compare})
    async with rig(small=say(text), large=say(text), knowledge_maker=unproved, learning=learning) as r:
        await asked(r, 3)
        assert (r.engines["small"].calls, await results(r)) == ([], {"incomparable": 3})
        assert await anyio.to_thread.run_sync(lambda: list(r.runtime.records.read())) == []


async def test_an_answer_that_nothing_can_be_compared_with_is_a_failure_beside_others_that_were(rig: OpenRig) -> None:
    """Else a template would be trusted for its short answers."""
    texts = ["Paris", "word " * 50, "Paris"]

    def large(call: Call) -> Script:
        return [Say(texts[len(r.engines["large"].calls) - 1])]

    async with rig(small=say("Paris"), large=large, knowledge_maker=unproved, learning=ALL) as r:
        await asked(r)
        assert await shadows_told(r) == counts(1, 1)
        await asked(r, 2)
        assert await shadows_told(r) == counts(3, 2)


EMBEDDER = (
    "  - {name: vectors, engine: embedder, tier: 0, context_tokens: 1000, package: none==0, abilities: [embeddings], "
    "price: {input_usd: 0, output_usd: 0}}\n"
)


@pytest.mark.parametrize(
    ("learning", "result"),
    [(ALL, "incomparable"), (ALL.model_copy(update={"compare": {TEMPLATE: SimilarTo(similar=0.99)}}), "same")],
    ids=["not chosen", "chosen"],
)
async def test_long_answers_are_compared_by_vectors_where_the_owner_says_so(
    rig: OpenRig, learning: LearningSection, result: str
) -> None:
    vectors = ScriptedEngine("vectors", say("x"))
    catalog = CATALOG.replace("aliases:", EMBEDDER + "aliases:")
    text = "word " * 50
    async with rig(
        small=say(text),
        large=say(text + "more"),
        catalog=catalog,
        others={"vectors": _Both(vectors)},
        knowledge_maker=unproved,
        learning=learning,
    ) as r:
        await asked(r)
        assert await results(r) == {result: 1}


class _Both:
    """The scripted engine answers one text; this makes its answer one for two."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def begin(self, call: Call) -> Any:
        reply = await self._engine.begin(call)
        item = b'{"object":"embedding","index":0,"embedding":[1.0,0.5]}'
        reply.first = b'{"data":[' + item + b"," + item + b"]}"
        return reply


# Money


async def test_a_shadow_is_charged_by_itself_and_to_nobody_who_asked(rig: OpenRig) -> None:
    async with rig(small=say("Paris"), large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        await asked(r)
        [asking, shadow] = sorted(await r.charges(2), key=lambda charge: len(charge["id"]))
        assert shadow["id"] == f"{asking['id']}-shadow"
        assert (shadow["caller"], shadow["team"], shadow["operation"]) == (EXPLORER.id, None, "shadow")
        assert (shadow["model"], shadow["template"], shadow["outcome"]) == ("small", TEMPLATE, "ok")
        assert shadow["cost_nano_usd"] == 5 * 100 + 1 * 200
        assert shadow["safe_cost_nano_usd"] == 0
        assert await r.metric("pointsman_shadow_cost_usd_total", model="small") == pytest.approx(700e-9)
        assert await r.metric("pointsman_cost_usd_total", model="small") == pytest.approx(700e-9)
        assert await r.metric("pointsman_requests_total", model="small", outcome="ok") == 0


async def test_without_money_nothing_is_drawn(rig: OpenRig) -> None:
    for usd in (None, Decimal(0)):  # None is for models on this machine alone, which scripted ones are not
        async with rig(knowledge_maker=unproved, learning=ALL.model_copy(update={"explore_usd_per_day": usd})) as r:
            await asked(r, 2)
            assert (r.engines["small"].calls, await results(r)) == ([], {})


async def test_the_days_money_is_counted_from_the_ledger_and_not_overspent(rig: OpenRig) -> None:
    """Each may cost 152,000 nano-dollars and costs 700: of 152,500 the first leaves too little for another."""
    learning = ALL.model_copy(update={"explore_usd_per_day": Decimal("0.0001525")})
    for expected in ({"same": 1, "spent": 2}, {"spent": 3}):
        async with rig(small=say("Paris"), large=say("Paris"), knowledge_maker=unproved, learning=learning) as r:
            await asked(r, 3)
            assert await results(r) == expected, (expected, r.engines["small"].calls)


async def test_a_request_that_no_days_money_suffices_for_is_not_sent(rig: OpenRig) -> None:
    learning = ALL.model_copy(update={"explore_usd_per_day": Decimal("0.000001")})
    async with rig(knowledge_maker=unproved, learning=learning) as r:
        await asked(r, 2)
        assert (r.engines["small"].calls, await results(r)) == ([], {"too_dear": 2})


async def test_a_model_without_a_price_is_not_explored(rig: OpenRig) -> None:
    catalog = CATALOG.replace('    price: {input_usd: "0.1", output_usd: "0.2"}\n', "")
    async with rig(catalog=catalog, knowledge_maker=unproved, learning=ALL) as r:
        await asked(r)
        assert await results(r) == {}


# Faults


async def test_a_shadow_is_asked_once(rig: OpenRig) -> None:
    catalog = CATALOG.replace("tier: 0", "tier: 0\n    retries: 3")
    async with rig(
        small=lambda call: [EngineUnavailable("down")], catalog=catalog, knowledge_maker=unproved, learning=ALL
    ) as r:
        await asked(r)
        assert (len(r.engines["small"].calls), await results(r)) == (1, {"failed": 1})
        assert await shadows_told(r) == Tally()


async def test_a_refusal_would_have_been_the_clients_so_it_is_a_failure(rig: OpenRig) -> None:
    def small(call: Call) -> Script:
        return [EngineRefused("no", status=400)]

    async with rig(small=small, knowledge_maker=unproved, learning=ALL) as r:
        await asked(r)
        assert await shadows_told(r) == counts(1, 0)


async def test_an_answer_that_takes_too_long_is_a_failure(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "SECONDS_LIMIT", 0.0)
    async with rig(small=lambda call: [Wait()], knowledge_maker=unproved, learning=ALL) as r:
        await asked(r)
        assert await results(r) == {"too_long": 1}
        assert await shadows_told(r) == counts(1, 0)


async def test_a_shadow_that_runs_at_shutdown_is_charged_and_not_counted(rig: OpenRig, tmp_path: Path) -> None:
    async with rig(small=lambda call: [Wait()], knowledge_maker=unproved, learning=ALL) as r:
        await ask(r)
        await until(lambda: len(r.engines["small"].calls) == 1)
    async with rig(knowledge_maker=unproved) as r:
        [_, shadow] = sorted(await r.charges(2), key=lambda charge: len(charge["id"]))
        assert (shadow["outcome"], shadow["cost_nano_usd"]) == ("failed", None)
        assert await shadows_told(r) == Tally()


async def test_outcomes_of_the_last_second_are_written_at_shutdown(rig: OpenRig) -> None:
    async with rig(small=say("Paris"), large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        await asked(r, 2)
    async with rig(knowledge_maker=unproved) as r:
        assert await shadows_told(r) == counts(2, 2)


async def test_a_model_that_is_busy_is_left_alone(rig: OpenRig) -> None:
    """With one place only when it rests; with more, one stays free for whoever comes."""
    gate = asyncio.Event()

    def small(call: Call) -> Script:
        return [Wait(gate), Say("Paris")]

    async with rig(small=small, large=say("Paris"), catalog=SPACIOUS, knowledge_maker=unproved, learning=ALL) as r:
        engine: Dispatcher = r.runtime.engines["small"]
        live = [asyncio.create_task(r.http.post(CHAT, json=chat("small"))) for _ in range(7)]
        await until(lambda: engine.in_flight == 7)
        await asked(r)
        assert await results(r) == {"busy": 1}
        gate.set()
        await asyncio.gather(*live)
        await until(lambda: engine.in_flight == 0)
        await asked(r)
        assert await results(r) == {"busy": 1, "same": 1}


async def test_models_on_this_machine_are_explored_unasked_while_all_of_them_rest(rig: OpenRig) -> None:
    """They share its cores: one that works makes the others slower. Their time is paid for anyway."""
    gate = asyncio.Event()

    def large(call: Call) -> Script:
        return [Wait(gate), Say("Paris")] if call.body["model"] == "large" else [Say("Paris")]

    learning = LearningSection(explore_share=1.0)
    async with rig(small=say("Paris"), large=large, catalog=LAPTOP, knowledge_maker=unproved, learning=learning) as r:
        live = asyncio.create_task(r.http.post(CHAT, json=chat("large")))
        await until(lambda: r.runtime.engines["large"].in_flight == 1)
        await ask(r)
        await settled(r, live=1)
        assert await results(r) == {"busy": 1}
        gate.set()
        await live
        await settled(r)
        await asked(r)
        assert await results(r) == {"busy": 1, "same": 1}


async def test_a_fault_in_here_is_no_fault_of_the_answer(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with rig(small=say("Paris"), large=say("Paris"), knowledge_maker=unproved, learning=ALL) as r:
        for name in ("undecided", "comparer_of", "body_of"):
            with monkeypatch.context() as patched:
                patched.setattr(module, name, broken)
                for stream in (False, True):
                    await asked(r, stream=stream)
        assert (r.engines["small"].calls, await results(r)) == ([], {"failed": 2})


async def test_nothing_of_prompts_and_answers_is_kept(rig: OpenRig, tmp_path: Path) -> None:
    async with rig(small=say("Lutetia"), large=say("Parisii"), knowledge_maker=unproved, learning=ALL) as r:
        await asked(r, 3)
        assert (await shadows_told(r)).total == 3
        await r.charges(6)
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files
    for path in files:
        kept = path.read_bytes()
        assert not any(text in kept for text in (b"Lutetia", b"Parisii", b"Of France?", b"Name the capital")), path
