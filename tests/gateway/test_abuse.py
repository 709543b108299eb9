"""What the router makes of requests that nobody sends in good faith, through the front door: an answer of the safe tier
or a 4xx that names the field, never a fault of the router; and whatever clients choose takes no more room than stated.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import anyio.to_thread
import pytest
from sqlalchemy import create_engine, func, select

from gateway.learning import shadows
from gateway.learning.section import LearningSection
from gateway.ledger.tables import evidence, feedback
from gateway.settings import Settings
from models.catalog import Catalog
from prompts.message import template_key
from router import groups
from router.bar import Bar
from router.decision import Basis, Knowledge
from router.difficulty import Difficulty, load_difficulty
from router.evidence import Evidence
from router.trust import Threshold
from tests.gateway.wire import CHAT, OpenRig, error_of, until
from tests.rig import Rig, say

pytestmark = pytest.mark.anyio

SYSTEM = {"role": "system", "content": "Name the capital."}
USER = {"role": "user", "content": "Of France?"}
CALL = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
MEGABYTE = 1_000_000
ALL = LearningSection(explore_usd_per_day=Decimal(1_000_000), explore_share=1.0, max_records=100)

ODD: Mapping[str, list[dict[str, Any]]] = {
    "an empty text": [{"role": "user", "content": ""}],
    "no content": [{"role": "user"}],
    "null": [SYSTEM, {"role": "user", "content": None}],
    "no parts": [{"role": "system", "content": []}, {"role": "user", "content": []}],
    "an empty part": [{"role": "user", "content": [{"type": "text"}]}],
    "a part whose text is none": [{"role": "user", "content": [{"type": "text", "text": 7}]}],
    "a fixed part of parts": [{"role": "system", "content": [{"type": "text", "text": "x"}]}, USER],
    "nothing but a fixed part": [SYSTEM],
    "results of tools alone": [{"role": "tool", "tool_call_id": "a", "content": "7"}],
    "calls of tools alone": [{"role": "assistant", "content": None, "tool_calls": [CALL]}],
    "NUL": [{"role": "system", "content": "\0 \0"}, {"role": "user", "content": "\0" * 100}],
    "noncharacters": [{"role": "system", "content": "\ufffe\uffff\u202e"}, {"role": "user", "content": "\U0010ffff"}],
    "as many messages as there may be": [USER] * 2048,
    "as many fixed parts": [SYSTEM] * 2048,
    "a name of a megabyte": [{"role": "user", "content": "x", "name": "n" * MEGABYTE}],
}
# What a pattern of the router could begin with, over and over, with what it could not end with.
UNITS = (
    "a",
    " ",
    "\n",
    "\r\n",
    "\t \n",
    "1,",
    "2026-",
    "a@",
    "0f",
    "; ",
    "(A) ",
    "A. ",
    "'",
    "\\",
    "é",
    "\u2028",
    "{",
    "jan ",
)


def looking(catalog: Catalog, settings: Settings) -> Knowledge:
    """Nothing is known of any template, and every prompt is looked at."""
    models = tuple(catalog.chatting)
    [any_solve_model, *_] = load_difficulty().models.values()
    difficulty = Difficulty({model.build: any_solve_model for model in models})
    return Knowledge(
        models, Evidence({}), difficulty, {models[0].build: Threshold(1.0, "never")}, Bar(0.95, margin=0.1)
    )


async def ask(r: Rig, messages: list[dict[str, Any]], **fields: Any) -> str:
    """The id of a request that the safe tier must answer, with no fault of the router."""
    response = await r.http.post(CHAT, json={"model": "auto", "messages": messages, **fields})
    assert response.status_code == 200, response.text
    assert (response.headers["x-pointsman-model"], response.headers["x-pointsman-basis"]) == ("large", Basis.SAFE)
    return str(response.headers["x-request-id"])


async def rested(r: Rig) -> None:
    await until(lambda: r.runtime.engines["large"].in_flight == 0 and r.runtime.watch.shadows.rests, 5)


@pytest.mark.parametrize("messages", ODD.values(), ids=ODD.keys())
async def test_odd_messages_are_routed_and_answered(
    rig: OpenRig, messages: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadows, "WORTH_ASKING", 1)
    async with rig(knowledge_maker=looking, learning=ALL) as r:
        for stream in (False, True):
            await ask(r, messages, stream=stream)
            await rested(r)
        assert await r.metric("pointsman_shadows_total", model="small", result="failed") == 0


async def test_a_megabyte_of_anything_is_routed_and_answered(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each role, and asked of the cheaper model too; a hang is ended by the suite's time limit."""
    monkeypatch.setattr(shadows, "WORTH_ASKING", 1)
    async with rig(knowledge_maker=looking, learning=ALL) as r:
        for unit in UNITS:
            text = unit * (MEGABYTE // len(unit))
            await ask(r, [{"role": "system", "content": text}, {"role": "user", "content": text}])
            await rested(r)
            await ask(r, [{"role": "system", "content": f"{text[:4000]} 1@"}, USER])
            await rested(r)


async def test_a_megabyte_of_answer_is_looked_at(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The safe tier's and the cheaper one's, compared each way there is."""
    monkeypatch.setattr(shadows, "WORTH_ASKING", 1)
    template = template_key({"messages": [SYSTEM]}) or ""
    for how in ("exact", "json", "number"):
        learning = ALL.model_copy(update={"compare": {template: how}})
        texts = ("n" * MEGABYTE, "1," * (MEGABYTE // 2), "[" * MEGABYTE, f'"{"x" * MEGABYTE}"', "9" * MEGABYTE)
        for text in texts:
            async with rig(small=say(text), large=say(text), knowledge_maker=looking, learning=learning) as r:
                await ask(r, [SYSTEM, USER])
                await rested(r)
                same = await r.metric("pointsman_shadows_total", model="small", result="same")
                incomparable = await r.metric("pointsman_shadows_total", model="small", result="incomparable")
                assert (same, incomparable) in ((1, 0), (0, 1)), (how, text[:10])


async def test_pictures_alone_are_refused_where_no_model_sees(rig: OpenRig) -> None:
    async with rig(knowledge_maker=looking) as r:
        for messages in ([{"role": "user", "content": [IMAGE]}], [SYSTEM, {"role": "user", "content": [IMAGE, IMAGE]}]):
            response = await r.http.post(CHAT, json={"model": "auto", "messages": messages})
            assert response.status_code == 400
            error = error_of(response)
            assert (error["code"], error["param"]) == ("unsupported_ability", "messages")


@pytest.mark.parametrize(
    "text", [b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xc0\x80"'],
    ids=["no UTF-8", "a surrogate as UTF-8", "a surrogate", "surrogates the wrong way round", "an overlong NUL"],
)  # fmt: skip
async def test_what_is_no_text_is_refused_before_anything_is_decided(rig: OpenRig, text: bytes) -> None:
    async with rig(knowledge_maker=looking) as r:
        for role in (b"system", b"user"):
            body = b'{"model": "auto", "messages": [{"role": "%b", "content": %b}]}' % (role, text)
            response = await r.http.post(CHAT, content=body)
            assert response.status_code == 400
            assert error_of(response)["code"] == "invalid_json"
        assert r.runtime.groups._seen == {}


async def test_tools_nested_as_deeply_as_may_be_are_routed(rig: OpenRig) -> None:
    inner: Any = {}
    for _ in range(190):
        inner = {"a": inner}
    tool = {"type": "function", "function": {"name": "look", "parameters": inner}}
    async with rig(knowledge_maker=looking) as r:
        await ask(r, [SYSTEM, USER], tools=[tool])
        deeper = {"type": "function", "function": {"name": "look", "parameters": {"a": [[[[[[[[[[inner]]]]]]]]]]}}}
        response = await r.http.post(CHAT, json={"model": "auto", "messages": [USER], "tools": [deeper]})
        assert response.status_code == 400
        assert error_of(response)["code"] == "invalid_json"


async def test_ever_new_system_messages_sessions_and_outcomes_take_no_more_room_than_stated(
    rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits made small, so that thousands of requests are far beyond them."""
    monkeypatch.setattr(groups, "SEEN_LIMIT", 50)
    monkeypatch.setattr(groups, "BUCKETS_LIMIT", 20)
    monkeypatch.setattr(groups, "ROOM_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(shadows, "SEEN_LIMIT", 60)
    monkeypatch.setattr("gateway.sessions.SESSIONS_LIMIT", 70)
    words = "You sort letters of customers of a bank by what they are about and answer with one word"

    async with rig(knowledge_maker=looking, learning=ALL, small=say("1"), large=say("1")) as r:

        async def send(number: int) -> None:
            system = {"role": "system", "content": f"{words} {'more ' * (number % 300)}for {number} people"}
            body = {"messages": [system, USER], "response_format": {"type": "json_object"}}
            headers = {"x-pointsman-session": f"s{number}"}
            for model in ("auto", "small"):
                response = await r.http.post(CHAT, json={"model": model, **body}, headers=headers)
                assert response.status_code == 200, response.text
            told = {"request_id": response.headers["x-request-id"], "name": "correct", "value": number % 2 == 0}
            assert (await r.http.post("/v1/feedback", json=told)).status_code == 200

        for start in range(0, 1_000, 8):
            async with anyio.create_task_group() as tasks:
                for number in range(start, start + 8):
                    tasks.start_soon(send, number)
        await rested(r)
        while await anyio.to_thread.run_sync(rows, r, feedback.c.due):
            await r.builder.count()
        await r.builder.count()
        await r.builder.learn()

        runtime = r.runtime
        assert len(runtime.groups._seen) == 50
        assert len(runtime.groups._buckets) <= 20
        assert runtime.groups._room_bytes <= 100_000
        assert len(runtime.watch.shadows._seen) <= 60
        assert len(runtime.sessions._models) == 70
        assert len(r.builder._outcomes._waiting) == 0
        assert await anyio.to_thread.run_sync(rows, r, evidence.c.place.is_not(None)) == 100
        assert await anyio.to_thread.run_sync(rows, r, feedback.c.name.is_not(None)) == 1_000
        assert len(runtime.meter._tabs) == 0


def rows(r: Rig, which: Any) -> int:
    database = create_engine(r.runtime.settings.database)
    try:
        with database.connect() as connection:
            return connection.execute(select(func.count()).where(which)).scalar_one()
    finally:
        database.dispose()
