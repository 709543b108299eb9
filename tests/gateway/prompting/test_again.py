"""An answer that is given a second time, under an idempotency key or from the cache, says of which prompt it is."""

from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from gateway.cache.evidence import record
from gateway.cache.section import CacheSection, SemanticTemplate
from router.bar import Tally
from tests.gateway.cache.worlds import Words
from tests.gateway.prompting.test_calling import NAMED
from tests.gateway.prompting.world import LIBRARY, TRIAGE, Trusting, publish
from tests.gateway.wire import CHAT, OpenRig

pytestmark = pytest.mark.anyio

PATHS = [CHAT, "/v1/responses", "/v1/messages"]
SMALL = {"x-prompt-id": TRIAGE.id, "x-prompt-version": "1", "x-prompt-variant": "small"}
ONCE = {"idempotency-key": "once"}
MOVED = replace(LIBRARY, labels={**LIBRARY.labels, TRIAGE.id: {"production": 2}})


def prompt_headers(answer: httpx2.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.headers.items() if name.startswith("x-prompt-")}


@pytest.mark.parametrize("path", PATHS)
async def test_a_replay_has_the_prompt_of_the_first_answer_whatever_is_in_production_since(
    rig: OpenRig, path: str
) -> None:
    async with rig(knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        first = await r.http.post(path, json={"prompt": NAMED}, headers=ONCE)
        publish(r, MOVED)
        again = await r.http.post(path, json={"prompt": NAMED}, headers=ONCE)
        assert (again.headers["idempotency-replayed"], again.content) == ("true", first.content)
        assert prompt_headers(first) == prompt_headers(again) == SMALL
        rows = await r.charges(2)
        assert [(row["prompt"], row["prompt_version"], row["prompt_variant"], row["cache"]) for row in rows] == [
            (TRIAGE.id, 1, "small", None),
            (TRIAGE.id, 1, "small", "idempotent"),
        ]


async def test_a_replay_of_no_prompt_has_none(rig: OpenRig) -> None:
    async with rig() as r:
        body = {"model": "large", "messages": [{"role": "user", "content": "Hello."}]}
        answers = [await r.http.post(CHAT, json=body, headers=ONCE) for _ in range(2)]
        assert answers[1].headers["idempotency-replayed"] == "true"
        assert [prompt_headers(answer) for answer in answers] == [{}, {}]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_of_the_cache_has_the_prompt_that_was_asked_for(rig: OpenRig, path: str, stream: bool) -> None:
    async with rig(knowledge_maker=Trusting(TRIAGE), cache=CacheSection(enabled=True)) as r:
        publish(r, LIBRARY)
        asked = {"prompt": NAMED, "stream": stream}
        first, again = [await r.http.post(path, json=asked) for _ in range(2)]
        assert (first.headers.get("x-pointsman-cache"), again.headers["x-pointsman-cache"]) == (None, "exact")
        assert prompt_headers(first) == prompt_headers(again) == SMALL


async def test_a_hit_by_likeness_has_the_prompt_that_was_asked_for(rig: OpenRig, tmp_path: Path) -> None:
    record(tmp_path / "data", TRIAGE.key, 0.8, Tally(passed=100, total=100, paired=100))
    alike = (SemanticTemplate(template=TRIAGE.key, threshold=0.8),)
    cache = CacheSection(enabled=True, semantic=alike)
    async with rig(knowledge_maker=Trusting(TRIAGE), cache=cache, embed_maker=Words) as r:
        publish(r, LIBRARY)
        for ticket, kind in (("the capital of France", None), ("capital of France, please", "semantic")):
            answer = await r.http.post(CHAT, json={"prompt": {**NAMED, "variables": {"ticket": ticket}}})
            assert answer.headers.get("x-pointsman-cache") == kind
            assert prompt_headers(answer) == SMALL
