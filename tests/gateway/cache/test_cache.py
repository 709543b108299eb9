"""The cache through the front door: what was answered before is answered again, the same way, for nothing."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.cache.cache import Cache, Semantic
from gateway.cache.evidence import record
from gateway.cache.neighbours import Neighbours
from gateway.cache.section import CacheSection, SemanticTemplate
from gateway.cache.stores import MemoryStore
from gateway.keys import Caller, Grant
from gateway.limits.budgets import Limits
from gateway.meter import Metrics
from models.engine import Call, EngineCut, Usage
from models.scripted import Say, Script, Wait
from router.bar import Tally
from tests.gateway.cache.worlds import SYSTEM, Clock, Words, asked, model, template_of
from tests.gateway.guardrails.replies import Written, blocks_of, delta, documents_of, event, finishes, said
from tests.gateway.wire import CHAT, USER, OpenRig, error_of, events_of
from tests.rig import Rig

pytestmark = pytest.mark.anyio

ON = {"enabled": True}
SAME: dict[str, Any] = {"model": "small", "messages": [USER], "temperature": 0}
ANN = Caller("a", "ann")


def counting() -> Callable[[Call], Script]:
    """A script whose answers are numbered, so that a new one is told from an old one."""
    made: Iterator[int] = iter(range(1, 100))
    return lambda call: [Say("answer "), Say(f"number {next(made)}")]


async def whole(r: Rig, **fields: Any) -> tuple[str | None, str | None]:
    """The text, and what the header says of the cache."""
    raw = await r.client.chat.completions.with_raw_response.create(**{**SAME, **fields})
    return raw.parse().choices[0].message.content, raw.headers.get("x-pointsman-cache")


async def streamed(r: Rig, **fields: Any) -> tuple[str, int | None]:
    """The text, and the prompt tokens that the stream told at its end."""
    text, tokens = "", None
    async for chunk in await r.client.chat.completions.create(**{**SAME, **fields, "stream": True}):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        tokens = chunk.usage.prompt_tokens if chunk.usage else tokens
    return text, tokens


COUNTED = {"stream_options": {"include_usage": True}}


async def test_a_hit_is_the_same_answer_in_either_form_and_calls_nobody(rig: OpenRig) -> None:
    async with rig(cache=ON, small=counting()) as r:
        assert await whole(r) == ("answer number 1", None)
        assert await whole(r) == ("answer number 1", "exact")
        assert await streamed(r) == ("answer number 1", None)
        assert await streamed(r, **COUNTED) == ("answer number 1", 3)
        assert len(r.engines["small"].calls) == 1


async def test_a_streamed_answer_is_found_by_a_whole_request_with_its_counts(rig: OpenRig) -> None:
    async with rig(cache=ON, small=counting()) as r:
        assert await streamed(r) == ("answer number 1", None)
        raw = await r.client.chat.completions.with_raw_response.create(**SAME)
        answer = raw.parse()
        assert answer.choices[0].message.content == "answer number 1"
        assert (answer.choices[0].finish_reason, answer.object) == ("stop", "chat.completion")
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)
        assert raw.headers["x-pointsman-cache"] == "exact"


async def test_a_hit_costs_nothing_and_the_ledger_and_the_metrics_say_so(rig: OpenRig) -> None:
    async with rig(cache=ON) as r:
        await whole(r)
        await whole(r)
        paid, hit = await r.charges(2)
        assert (paid["cache"], paid["attempts"]) == (None, 1)
        assert (hit["cache"], hit["attempts"], hit["outcome"], hit["model"]) == ("exact", 0, "ok", "small")
        assert (hit["cost_nano_usd"], hit["prompt_tokens"], hit["completion_tokens"]) == (0, 0, 0)
        assert hit["safe_cost_nano_usd"] == paid["safe_cost_nano_usd"] > 0, "what the safe tier would have cost"
        for result in ("hit", "miss"):
            assert await r.metric("pointsman_cache_lookups_total", kind="exact", result=result) == 1


async def test_auto_finds_what_the_decided_model_said_by_name_and_the_other_way_round(rig: OpenRig) -> None:
    async with rig(cache=ON, large=counting()) as r:
        assert await whole(r, model="auto") == ("answer number 1", None)
        assert await whole(r, model="large") == ("answer number 1", "exact")
        assert await whole(r, model="small") == ("small answer", None)


async def test_one_callers_answers_are_never_anothers(rig: OpenRig) -> None:
    async with rig(cache=ON, small=counting()) as r:
        await whole(r)
        async with another(r) as other:
            answer = (await other.post(CHAT, json=SAME)).json()
        assert answer["choices"][0]["message"]["content"] == "answer number 2"


async def test_a_team_shares_when_the_settings_say_so(rig: OpenRig) -> None:
    async with rig(cache={**ON, "shared_by": "team"}, small=counting()) as r:
        async with another(r, team="t") as ann, another(r, team="t") as bob, another(r, team="u") as eve:
            answers = [(await caller.post(CHAT, json=SAME)).json() for caller in (ann, bob, eve)]
        texts = [answer["choices"][0]["message"]["content"] for answer in answers]
        assert texts == ["answer number 1", "answer number 1", "answer number 2"]


@asynccontextmanager
async def another(r: Rig, team: str | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a key of its own."""
    key, _ = await anyio.to_thread.run_sync(r.runtime.keys.create, "another", Grant(team=team))
    async with httpx2.AsyncClient(base_url=r.base_url, headers={"authorization": f"Bearer {key}"}) as client:
        yield client


async def test_what_is_left_to_chance_is_asked_anew_unless_the_settings_say_always(rig: OpenRig) -> None:
    async with rig(cache=ON, small=counting()) as r:
        assert await whole(r, temperature=0.7) == ("answer number 1", None)
        assert await whole(r, temperature=0.7) == ("answer number 2", None)
        assert await whole(r, temperature=0.7, seed=1) == ("answer number 3", None)
        assert await whole(r, temperature=0.7, seed=1) == ("answer number 3", "exact")


async def test_always_is_always(rig: OpenRig) -> None:
    async with rig(cache={**ON, "always": True}, small=counting()) as r:
        assert await whole(r, temperature=0.7) == ("answer number 1", None)
        assert await whole(r, temperature=0.7) == ("answer number 1", "exact")


async def test_a_request_says_whether_it_wants_the_cache(rig: OpenRig) -> None:
    def wish(said: str) -> dict[str, Any]:
        return {"extra_headers": {"x-pointsman-cache": said}}

    async with rig(cache=ON, small=counting()) as r:
        assert await whole(r, **wish("off")) == ("answer number 1", None)
        assert await whole(r) == ("answer number 2", None), "what was off was not kept"
        assert await whole(r, **wish("off")) == ("answer number 3", None)
        assert await whole(r, **wish("refresh")) == ("answer number 4", None)
        assert await whole(r) == ("answer number 4", "exact")
        refused = await r.http.post(CHAT, json=SAME, headers={"x-pointsman-cache": "maybe"})
        assert error_of(refused)["param"] == "x-pointsman-cache"


async def test_an_answer_that_broke_off_is_not_kept(rig: OpenRig) -> None:
    breaks = iter([True, False])

    def script(call: Call) -> Script:
        return [Say("half"), EngineCut("broke off")] if next(breaks) else [Say("all")]

    async with rig(cache=ON, small=script) as r:
        response = await r.http.post(CHAT, json={**SAME, "stream": True})
        assert '"engine_cut"' in events_of(response)[-2]
        assert await whole(r) == ("all", None)


async def test_an_answer_whose_client_left_is_not_kept(rig: OpenRig) -> None:
    scripts = iter([[Say("half"), Wait()], [Say("all")]])
    async with rig(cache=ON, small=lambda call: next(scripts)) as r:
        async with r.http.stream("POST", CHAT, json={**SAME, "stream": True}) as response:
            await anext(response.aiter_bytes())
        assert await whole(r) == ("all", None)


async def test_an_answer_of_a_model_that_stood_in_is_that_models(rig: OpenRig) -> None:
    """What the decided model would say is still not known."""
    async with rig(cache=ON, small=counting(), large=counting()) as r:
        search = r.runtime.cache.search(asked(), None, ANN, {})  # type: ignore[union-attr]
        assert search is not None
        models = r.runtime.catalog.models
        await search.keep(Written([WHOLE]), models["large"])
        assert await search.find(models["small"]) is None
        assert await search.find(models["large"]) is not None


async def test_other_protocols_get_kept_answers_too(rig: OpenRig) -> None:
    body = {"model": "small", "messages": [USER], "max_tokens": 9, "temperature": 0}
    async with rig(cache=ON, small=counting()) as r:
        first = (await r.http.post("/v1/messages", json=body)).json()
        again = await r.http.post("/v1/messages", json=body)
        assert again.headers["x-pointsman-cache"] == "exact"
        assert (again.json()["content"], again.json()["usage"]) == (first["content"], first["usage"])
        events = await r.http.post("/v1/messages", json={**body, "stream": True})
        assert "answer number 1" in events.text
        assert len(r.engines["small"].calls) == 1


async def test_embeddings_are_kept(rig: OpenRig) -> None:
    catalog = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 99, abilities: [embeddings]}
  - {name: large, engine: scripted, tier: 1, context_tokens: 99}
"""
    async with rig(cache=ON, catalog=catalog) as r:
        for _ in range(2):
            response = await r.http.post("/v1/embeddings", json={"model": "small", "input": "x"})
            assert response.json()["data"][0]["embedding"]
        assert len(r.engines["small"].calls) == 1


async def test_a_guardrail_looks_at_kept_answers_too(rig: OpenRig) -> None:
    rails = [{"kind": "blocklist", "words": ["number"], "applies_to": ["answer"]}]
    async with rig(cache=ON, small=counting(), guardrails=rails) as r:
        assert await whole(r) == ("answer [BLOCKED] 1", None)
        assert await whole(r) == ("answer [BLOCKED] 1", "exact")
        assert (await streamed(r))[0] == "answer [BLOCKED] 1"


async def test_an_answer_that_came_to_its_end_within_a_budget_is_kept(rig: OpenRig) -> None:
    async with rig(cache=ON, clamp_to_budget=True, small=counting()) as r:
        grant = Grant(limits=Limits(day_nano_usd=150_000))
        key, _ = await anyio.to_thread.run_sync(r.runtime.keys.create, "poor", grant)
        for hit in (None, "exact"):
            response = await r.http.post(CHAT, json=SAME, headers={"authorization": f"Bearer {key}"})
            assert response.headers.get("x-pointsman-cache") == hit
        assert "max_tokens" in r.engines["small"].calls[0].body


@pytest.mark.parametrize(("finish", "kept"), [("length", None), ("stop", "exact")])
async def test_an_answer_cut_short_by_a_budget_is_not_kept(finish: str, kept: str | None) -> None:
    """The next who asks may have the money for the whole of it."""
    made = cache()
    search = made.search(asked(), None, ANN, {})
    assert search is not None
    await search.keep(Written([answer(finish)]), model(), is_limited=True)
    assert await found(made) == kept


async def test_off_is_off(rig: OpenRig) -> None:
    async with rig(small=counting()) as r:
        assert r.runtime.cache is None
        assert await whole(r) == ("answer number 1", None)
        assert await whole(r) == ("answer number 2", None)


# Below the front door: what needs a clock, another build, or an engine that says odd things.

MESSAGE = {"role": "assistant", "content": "kept"}
COUNTS = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def answer(finish: str = "stop", **fields: Any) -> bytes:
    choice = {"index": 0, "message": MESSAGE, "finish_reason": finish}
    return orjson.dumps({"object": "chat.completion", "choices": [choice], "usage": COUNTS, **fields})


WHOLE = answer()


def cache(clock: Clock | None = None, semantic: Semantic | None = None, **settings: Any) -> Cache:
    store = MemoryStore(60, 1 << 20, clock=clock or Clock())
    return Cache(CacheSection(enabled=True, **settings), store, Metrics(CollectorRegistry()), semantic)


async def found(made: Cache, text: str = "hello", *, of: Any = None, stream: bool = False) -> str | None:
    request = asked(text, stream=stream)
    search = made.search(request, template_of(request), ANN, {})
    assert search is not None
    replayed = await search.find(of or model())
    return replayed.kind if replayed else None


async def keep(made: Cache, reply: Written, text: str = "hello", **fields: Any) -> list[bytes]:
    request = asked(text, **fields)
    search = made.search(request, template_of(request), ANN, {})
    assert search is not None
    return await blocks_of(await search.keep(reply, model()))


async def test_an_answer_is_kept_for_its_time() -> None:
    clock = Clock()
    made = cache(clock)
    await keep(made, Written([WHOLE]))
    clock.now += 59
    assert await found(made) == "exact"
    clock.now += 1
    assert await found(made) is None


async def test_a_new_build_of_the_model_finds_nothing() -> None:
    made = cache()
    await keep(made, Written([WHOLE]))
    assert await found(made, of=model(url="http://two/v1")) is None
    assert await found(made) == "exact"


@pytest.mark.parametrize(
    ("reasons", "finish", "kept"),
    [
        (("stop", "tool_calls", "length"), "length", "exact"),
        (("stop",), "length", None),
        (("stop", "tool_calls", "length"), "content_filter", None),
        (("stop", "tool_calls", "length"), None, None),
    ],
)
async def test_only_a_good_end_is_kept(reasons: tuple[str, ...], finish: Any, kept: str | None) -> None:
    made = cache(finish_reasons=reasons)
    await keep(made, Written([answer(finish)]))
    assert await found(made) == kept
    made = cache(finish_reasons=reasons)
    await keep(made, Written([event(delta(content="x")), event(delta(finish))], Usage(1, 1)), stream=True)
    assert await found(made) == kept


@pytest.mark.parametrize(
    "reply",
    [
        Written([answer(usage=None)]),
        Written([answer(filler="x" * (1 << 20))]),
    ],
    ids=["nobody counted", "too long"],
)
async def test_what_cannot_be_given_again_is_not_kept(reply: Written) -> None:
    made = cache()
    await keep(made, reply)
    assert await found(made) is None


async def test_a_stream_that_is_noted_passes_unchanged_however_long_or_strange() -> None:
    long = [event(delta(content="x" * 300_000)) for _ in range(5)]
    strange = [event(delta(audio={"data": "x"})), event(delta("stop"))]
    for blocks in (long, strange, [event(delta(content="x"))]):
        made = cache()
        assert await keep(made, Written(blocks, Usage(1, 1)), stream=True) == blocks
        assert await found(made) is None


async def test_tool_calls_and_logprobs_are_told_in_a_stream_as_engines_do() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    spelled: dict[str, Any] = {
        "content": [{"token": "x", "logprob": -1, "bytes": None, "top_logprobs": []}],
        "refusal": None,
    }
    choice: dict[str, Any] = {"index": 0, "message": {**MESSAGE, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    made = cache()
    await keep(made, Written([answer(choices=[{**choice, "logprobs": spelled}])]))
    request = asked(stream=True)
    search = made.search(request, None, ANN, {})
    assert search is not None
    replayed = await search.find(model())
    assert replayed is not None
    blocks = await blocks_of(replayed)
    assert (said(blocks), finishes(blocks)) == ("kept", ["tool_calls"])
    [first, *_] = documents_of(blocks)
    assert first["choices"][0]["delta"]["tool_calls"] == [{**call, "index": 0}]
    assert first["choices"][0]["logprobs"] == spelled


# Prompts alike.

ASKED, ALIKE, OTHER = "the capital of France", "capital of France, please", "will it rain"
THRESHOLD = 0.8
PROVED = Tally(passed=100, total=100, paired=100)


def alike(words: Words) -> Semantic:
    return Semantic(Neighbours(words), {template_of(asked()): THRESHOLD})


async def test_a_prompt_alike_gets_the_kept_answer_and_another_does_not() -> None:
    made = cache(semantic=alike(Words()))
    assert await found(made, ASKED) is None
    await keep(made, Written([WHOLE]), ASKED)
    assert await found(made, ALIKE) == "semantic"
    assert await found(made, ALIKE, stream=True) == "semantic"
    assert await found(made, OTHER) is None
    assert await found(made, "zzz") is None, "a text without a known word is like none"
    assert await found(made, ALIKE, of=model(url="http://two/v1")) is None


async def test_a_neighbour_whose_answer_is_gone_is_forgotten() -> None:
    clock = Clock()
    made = cache(clock, alike(Words()))
    await keep(made, Written([WHOLE]), ASKED)
    clock.now += 60
    assert await found(made, ALIKE) is None
    assert made.semantic is not None
    assert not made.semantic.neighbours._groups


async def test_the_text_of_other_templates_is_never_embedded() -> None:
    words = Words()
    made = cache(semantic=Semantic(Neighbours(words), {"another": THRESHOLD}))
    await keep(made, Written([WHOLE]), ASKED)
    assert await found(made, ALIKE) is None
    assert words.asked == []


@pytest.mark.parametrize(("tally", "kind"), [(PROVED, "semantic"), (Tally(60, 100, 40, 0, 100), None), (None, None)])
async def test_prompts_alike_are_answered_only_when_that_holds_the_bar(
    rig: OpenRig, tmp_path: Path, tally: Tally | None, kind: str | None
) -> None:
    template = template_of(asked())
    if tally is not None:
        record(tmp_path / "data", template, THRESHOLD, tally)
    settings = CacheSection(enabled=True, semantic=(SemanticTemplate(template=template, threshold=THRESHOLD),))
    async with rig(cache=settings, embed_maker=Words, small=counting()) as r:
        messages = [[SYSTEM, {"role": "user", "content": text}] for text in (ASKED, ALIKE)]
        assert await whole(r, messages=messages[0]) == ("answer number 1", None)
        text, cached = await whole(r, messages=messages[1])
        assert (text, cached) == (("answer number 1" if kind else "answer number 2"), kind)
        rows = await r.charges(2)
        assert rows[1]["cache"] == kind
