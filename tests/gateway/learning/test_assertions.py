"""What a cheaper model answers on trust is looked at afterwards: has it the form that was asked for?"""

from collections.abc import AsyncGenerator
from typing import Any

import anyio.to_thread
import pytest

from gateway.learning.section import LearningSection
from gateway.settings import Settings
from models.catalog import Catalog
from models.documents import Document
from models.engine import Call, Usage
from models.scripted import Say, Script, ScriptedEngine
from prompts.message import template_key
from router.bar import Bar, Tally
from router.decision import Knowledge, Mode
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.sources import Source
from tests.gateway.wire import CHAT, OpenRig
from tests.rig import Rig, say

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {
    "model": "auto",
    "messages": [{"role": "system", "content": "Name the capital."}, {"role": "user", "content": "Of France?"}],
    "response_format": {"type": "json_object"},
}
TEMPLATE = template_key(BODY) or ""
SCHEMA = {"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"]}
BY_SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}}
NO_SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "town"}}}}
NAMED = {
    "response_format": None,
    "tools": [{"type": "function", "function": {"name": "name", "strict": True, "parameters": SCHEMA}}],
}
FORMS: tuple[dict[str, Any], ...] = ({}, {"response_format": None}, BY_SCHEMA, NO_SCHEMA, NAMED)
GOOD, BAD = '{"capital": "Paris"}', "```json\n{}\n```"
ENOUGH = 40  # answers in the wrong form that end any trust


def proved(catalog: Catalog, settings: Settings) -> Knowledge:
    models = tuple(catalog)
    tally = Tally(passed=200, total=200, paired=200)
    tallies = {(template_key({**BODY, **fields}), models[0].build): tally for fields in FORMS}
    known = {(template or "", build): tally for (template, build), tally in tallies.items()}
    return Knowledge(models, Evidence(known), Difficulty({}), {}, Bar(0.95, pass_rate=0.9))


class Calls(ScriptedEngine):
    """Answers with one call of a function."""

    def __init__(self, name: str, arguments: str) -> None:
        super().__init__("small", say(""))
        function = {"name": name, "arguments": arguments}
        self._calls = [{"index": 0, "id": "call_1", "type": "function", "function": function}]

    async def _played(self, call: Call) -> AsyncGenerator[Document, None]:
        saying = "delta" if call.stream else "message"
        choice = {"index": 0, saying: {"role": "assistant", "tool_calls": self._calls}, "finish_reason": "tool_calls"}
        kind = "chat.completion.chunk" if call.stream else "chat.completion"
        yield Document(self._document(kind, [choice]), Usage(3, 5), 0.001)


async def asserted(r: Rig) -> Tally:
    await r.builder.learn()
    found = await anyio.to_thread.run_sync(lambda: list(r.runtime.records.read()))
    return found[0].record.generations[0].tallies.get(Source.ASSERTION, Tally()) if found else Tally()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("text", "passed"), [(GOOD, 1), (BAD, 0), ("", 0)])
async def test_json_that_was_asked_for_is_looked_at(rig: OpenRig, text: str, passed: int, streamed: bool) -> None:
    async with rig(small=say(text[:3], text[3:]), knowledge_maker=proved) as r:
        response = await r.http.post(CHAT, json={**BODY, "stream": streamed})
        assert response.headers["x-pointsman-model"] == "small"
        assert await asserted(r) == Tally(passed=passed, total=1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "text", "passed"),
    [(BY_SCHEMA, GOOD, 1), (BY_SCHEMA, "{}", 0), (BY_SCHEMA, BAD, 0), (NO_SCHEMA, "{}", 1), (NO_SCHEMA, BAD, 0)],
)
async def test_json_is_held_to_the_schema_that_was_asked_for(
    rig: OpenRig, fields: dict[str, Any], text: str, passed: int, streamed: bool
) -> None:
    """One that is no schema leaves JSON as what was asked for, and fails no request."""
    async with rig(small=say(text[:3], text[3:]), knowledge_maker=proved) as r:
        response = await r.http.post(CHAT, json={**BODY, **fields, "stream": streamed})
        assert (response.status_code, response.headers["x-pointsman-model"]) == (200, "small")
        assert await asserted(r) == Tally(passed=passed, total=1)


async def test_a_text_beside_strict_functions_says_nothing(rig: OpenRig) -> None:
    async with rig(small=say("Paris"), knowledge_maker=proved) as r:
        response = await r.http.post(CHAT, json={**BODY, **NAMED})
        assert response.headers["x-pointsman-model"] == "small"
        assert await asserted(r) == Tally()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("name", "arguments", "passed"),
    [("name", GOOD, 1), ("name", "{}", 0), ("name", '{"capital"', 0), ("other", GOOD, 0)],
)
async def test_calls_are_held_to_the_arguments_that_a_strict_function_takes(
    rig: OpenRig, name: str, arguments: str, passed: int, streamed: bool
) -> None:
    async with rig(knowledge_maker=proved, others={"small": Calls(name, arguments)}) as r:
        response = await r.http.post(CHAT, json={**BODY, **NAMED, "stream": streamed})
        assert response.headers["x-pointsman-model"] == "small"
        assert await asserted(r) == Tally(passed=passed, total=1)


@pytest.mark.parametrize("fields", [{"response_format": None}, {"model": "small"}, {"model": "large"}])
async def test_what_was_not_on_trust_or_not_json_is_not_looked_at(rig: OpenRig, fields: dict[str, Any]) -> None:
    async with rig(small=say(BAD), knowledge_maker=proved) as r:
        await r.http.post(CHAT, json={**BODY, **fields})
        assert await asserted(r) == Tally()


async def test_answers_in_the_wrong_form_send_a_template_back_to_the_safe_tier(rig: OpenRig) -> None:
    async with rig(small=say(BAD), large=say(GOOD), knowledge_maker=proved) as r:
        for _ in range(ENOUGH):
            await r.http.post(CHAT, json=BODY)
        await r.builder.learn()
        headers = (await r.http.post(CHAT, json=BODY)).headers
        assert headers["x-pointsman-model"] == "large"
        assert "suspended (pass_rate_fell)" in headers["x-pointsman-reason"]


async def test_a_form_that_we_may_have_cut_off_says_nothing(rig: OpenRig) -> None:
    async with rig(small=say(BAD), knowledge_maker=proved, clamp_to_budget=True) as r:
        await r.http.post(CHAT, json=BODY)
        assert await asserted(r) == Tally()


async def test_no_outcome_of_a_template_whose_routing_is_off(rig: OpenRig) -> None:
    calls: list[Call] = []

    def small(call: Call) -> Script:
        calls.append(call)
        return [Say(BAD)]

    learning = LearningSection(mode=Mode.OFF)
    async with rig(small=small, knowledge_maker=proved, learning=learning) as r:
        await r.http.post(CHAT, json=BODY)
        assert (calls, await asserted(r)) == ([], Tally())
