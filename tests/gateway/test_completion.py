"""Which model is tried when, through the whole gateway: another one only before the first chunk."""

from collections.abc import AsyncGenerator

import orjson
import pytest

from gateway.settings import Settings
from models.catalog import Catalog
from models.documents import Document, DocumentsReply
from models.engine import (
    Call,
    ContextTooLong,
    EngineBusy,
    EngineCut,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Reply,
)
from models.scripted import Say, ScriptedEngine
from prompts.message import template_key
from router.bar import Bar, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from tests.gateway.wire import CHAT, USER, OpenRig, error_of, events_of
from tests.rig import say

pytestmark = pytest.mark.anyio

SYSTEM = {"role": "system", "content": "Say whether the text is kind."}
PROVED = {"model": "auto", "messages": [SYSTEM, USER]}
TOO_LONG = ContextTooLong("the prompt does not fit")


def small_has_proved_itself(catalog: Catalog, settings: Settings) -> Knowledge:
    template = template_key(PROVED)
    assert template is not None
    evidence = Evidence({(template, catalog.models["small"].build): Tally(passed=100, total=100, paired=100)})
    return Knowledge(tuple(catalog), evidence, Difficulty({}), {}, Bar(0.95, margin=0.1))


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("error", [EngineUnavailable("x"), EngineBusy("x"), TOO_LONG], ids=lambda e: type(e).__name__)
async def test_the_next_model_answers_when_the_first_cannot_begin(
    rig: OpenRig, error: EngineError, streamed: bool
) -> None:
    async with rig(small=lambda call: [error], knowledge_maker=small_has_proved_itself) as r:
        response = await r.http.post(CHAT, json={**PROVED, "stream": streamed})
        assert response.status_code == 200
        assert response.headers["x-pointsman-model"] == "large"
        assert response.headers["x-pointsman-passed-over"] == "small"
        assert response.headers["x-pointsman-basis"] == "evidence"
        [row] = await r.charges(1)
        assert (row["model"], row["attempts"], row["outcome"]) == ("large", 2, "ok")
        assert row["cost_nano_usd"] == 9 * 1000 + 2 * 2000  # of the answer alone: nine words in, two out


async def test_an_engine_that_ends_without_a_chunk_is_passed_over(rig: OpenRig) -> None:
    async with rig(knowledge_maker=small_has_proved_itself) as r:
        r.runtime.engines["small"].replicas[0].engine = Silent("small", say())
        response = await r.http.post(CHAT, json=PROVED)
        assert response.headers["x-pointsman-passed-over"] == "small"


class Silent(ScriptedEngine):
    """Ends its answers before they begin."""

    async def begin(self, call: Call) -> Reply:
        return await DocumentsReply.begin(_nothing(), call)


async def _nothing() -> AsyncGenerator[Document, None]:
    for document in list[Document]():
        yield document


async def test_after_its_first_chunk_no_other_model_is_tried(rig: OpenRig) -> None:
    for error in (EngineUnavailable("x"), EngineBusy("x"), EngineCut("x"), TOO_LONG):

        def begins_and_fails(call: object, error: EngineError = error) -> list[Say | EngineError]:
            return [Say("one "), error]

        async with rig(small=begins_and_fails, knowledge_maker=small_has_proved_itself) as r:
            response = await r.http.post(CHAT, json={**PROVED, "stream": True})
            first, *_, last, done = events_of(response)
            assert orjson.loads(first)["choices"][0]["delta"]["content"] == "one "
            assert orjson.loads(last)["error"]["code"] == "engine_cut"
            assert done == "[DONE]"
            assert r.engines["large"].calls == []


@pytest.mark.parametrize("error", [EngineRefused("no", status=422), EngineCut("x")], ids=lambda e: type(e).__name__)
async def test_no_other_model_is_asked_when_the_request_itself_is_wrong_or_the_answer_had_begun(
    rig: OpenRig, error: EngineError
) -> None:
    async with rig(small=lambda call: [error], knowledge_maker=small_has_proved_itself) as r:
        response = await r.http.post(CHAT, json=PROVED)
        assert response.status_code == (422 if isinstance(error, EngineRefused) else 502)
        error_of(response)
        assert r.engines["large"].calls == []
        await r.charges(1)


async def test_a_prompt_that_fits_no_model_is_a_400(rig: OpenRig) -> None:
    async with rig(
        small=lambda _: [TOO_LONG], large=lambda _: [TOO_LONG], knowledge_maker=small_has_proved_itself
    ) as r:
        response = await r.http.post(CHAT, json=PROVED)
        assert response.status_code == 400
        error = error_of(response)
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        [row] = await r.charges(1)
        assert (row["outcome"], row["attempts"], row["cost_nano_usd"]) == ("refused", 2, 0)


async def test_when_every_model_fails_the_last_one_gives_the_reason(rig: OpenRig) -> None:
    busy = EngineBusy("try later", retry_after_seconds=7.2)
    async with rig(
        small=lambda _: [EngineUnavailable("x")], large=lambda _: [busy], knowledge_maker=small_has_proved_itself
    ) as r:
        response = await r.http.post(CHAT, json=PROVED)
        assert (response.status_code, response.headers["retry-after"]) == (503, "8")
        assert error_of(response)["message"] == "try later"
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"], row["attempts"]) == ("failed", 503, 2)


@pytest.mark.parametrize("error", [EngineUnavailable("x"), EngineBusy("x"), TOO_LONG], ids=lambda e: type(e).__name__)
async def test_a_pinned_model_never_falls_back(rig: OpenRig, error: EngineError) -> None:
    async with rig(small=lambda call: [error], knowledge_maker=small_has_proved_itself) as r:
        response = await r.http.post(CHAT, json={**PROVED, "model": "small"})
        assert response.status_code >= 400
        error_of(response)
        assert r.engines["large"].calls == []
