"""A canary begins where the gate is open, takes a fair share, widens until its label has moved, and goes back by
itself: through the front door, with scripted engines.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from gateway.learning.section import LearningSection
from gateway.learning.store import RecordStore
from gateway.learning.told import Outcomes
from gateway.ledger.database import open_database
from gateway.library import canaries
from gateway.library.canaries import CanaryStore
from gateway.library.records import Trial
from gateway.library.store import LibraryStore
from prompts.suite import Bars, Suite
from prompts.suite_document import document_of
from prompts.template import Template, Text, Variant
from router.bar import Cause, Shown, Verdict
from router.canary import Stage, Step
from router.sources import Source
from tests.gateway.library.test_api import LABEL, NEW, PATH, canonical, lineup, managed
from tests.gateway.library.world import PROMPT, SUITE, receipt, template
from tests.gateway.wire import CHAT, OpenRig, error_of, until
from tests.rig import CATALOG, Rig, say

pytestmark = pytest.mark.anyio

A = template()
B = replace(A, variants={"small": Variant((Text("system", "Small: say yes."), Text("user", "{{ text }}")))})
CANARY = f"{LABEL}/canary"
AT_ONE = {"if-match": '"1"'}
FEW = (Step(0.3, 44), Step(0.6, 44))  # so many without a failure prove safe-0.1
SPACIOUS = CATALOG.replace("tier: 0", "tier: 0\n    parallel: 8").replace("tier: 1", "tier: 1\n    parallel: 8")
NOTHING_EXPLORED = LearningSection(explore_share=0.0)
NOTHING_COMPARED = LearningSection(explore_share=0.0, compare={B.key: "none"})


@pytest.fixture(autouse=True)
def few_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "steps_for", lambda bar: FEW)


@asynccontextmanager
async def on_trial(rig: OpenRig, begin: bool = True, **settings: Any) -> AsyncIterator[Rig]:
    """Production at version 1; version 2, which has a text for the small tier, has passed its tests and is tried."""
    settings = {"catalog": SPACIOUS, "learning": NOTHING_EXPLORED, **settings}
    async with managed(rig, **settings) as r:
        for of in (A, B):
            assert (await r.http.post("/v1/prompts", json={"id": PROMPT, "template": canonical(of)})).status_code == 200
        assert (await r.http.put(f"{PATH}/suite", json=document_of(SUITE))).status_code == 200
        for of in (A, B):
            await proved(r, of)
        assert (await r.http.put(LABEL, json={"version": 1}, headers=NEW)).status_code == 200
        if begin:
            begun = await r.http.put(CANARY, json={"version": 2, "tier": "small"}, headers=AT_ONE)
            assert begun.status_code == 200, begun.text
        yield r


async def proved(r: Rig, of: Template, passed: int = 20) -> None:
    for tier in ("small", "large"):
        made = receipt(of, tier, passed=passed, lineup=lineup(r)).document()
        assert (await r.http.post(f"{PATH}/receipts", json=made)).status_code == 200


async def ask(r: Rig, **fields: Any) -> Any:
    """As a client that names the label; what the canary's answer is compared with is there when this returns."""
    answer = await r.http.post(CHAT, json={"prompt": {"id": PROMPT, "variables": {"text": "t"}}, **fields})
    assert answer.status_code == 200, answer.text
    large = r.runtime.engines["large"]
    await until(lambda: r.runtime.watch.canaries.rests and large.in_flight == 0, 5)
    return answer


async def now(r: Rig) -> dict[str, Any]:
    """The canary as the API tells it, with all that was learned until now."""
    await r.builder.count()
    await r.builder.learn()
    return dict((await r.http.get(CANARY)).json())


async def asked_until(r: Rig, ended: Callable[[], bool], most: int = 700) -> Counter[str]:
    """Ask until *ended*; how many answers were of which version."""
    seen: Counter[str] = Counter()
    for number in range(most):
        seen[(await ask(r)).headers["x-prompt-version"]] += 1
        if number % 10 == 9:
            await r.builder.learn()
            if ended():
                return seen
    raise AssertionError(f"it has not ended: {await now(r)}")


def trial(r: Rig) -> Trial:
    return r.builder.runtime.standing.trials[PROMPT, "production"]


async def test_a_share_of_the_labels_requests_goes_to_the_version_on_the_tier_and_says_so(rig: OpenRig) -> None:
    """Within six standard deviations: it fails by chance once in many lives of the project."""
    async with on_trial(rig, learning=NOTHING_COMPARED) as r:
        answers = [
            await r.http.post(CHAT, json={"prompt": {"id": PROMPT, "variables": {"text": "t"}}}) for _ in range(300)
        ]
        tried = [answer.headers for answer in answers if answer.headers["x-prompt-version"] == "2"]
        assert abs(len(tried) - 90) < 6 * (300 * 0.3 * 0.7) ** 0.5
        for headers in tried:
            assert (headers["x-pointsman-model"], headers["x-prompt-variant"]) == ("small", "small")
            assert headers["x-pointsman-basis"] == "canary"
            assert headers["x-pointsman-reason"] == f"a canary of {PROMPT}@2 takes 30% of the requests of production"
        others = [answer.headers for answer in answers if answer.headers["x-prompt-version"] == "1"]
        assert len(others) + len(tried) == 300
        assert {headers["x-pointsman-basis"] for headers in others} == {"safe"}


async def test_a_good_one_widens_until_its_label_has_moved(rig: OpenRig) -> None:
    with capture_logs() as logs:
        async with on_trial(rig, small=say("yes"), large=say("Yes.")) as r:
            await asked_until(r, lambda: trial(r).canary.place == 1)
            assert (await now(r))["share"] == 0.6
            await asked_until(r, lambda: not trial(r).runs)
            assert (await now(r))["stage"] == "whole"
            got = await r.http.get(LABEL)
            assert (got.json()["version"], got.headers["etag"]) == (2, '"2"')
            moves = (await r.http.get(f"{LABEL}/history")).json()["data"]
            assert [(m["from"], m["version"], m["by"].partition(" ")[0]) for m in moves] == [
                (1, 2, "canary"),
                (1, 1, "canary"),
                (1, 1, "ann"),
                (None, 1, "ann"),
            ]
            assert "begun by ann" in moves[0]["message"]
            assert (await ask(r)).headers["x-prompt-version"] == "2"
            assert await r.metric("pointsman_canaries_total", stage="whole") == 1
            again = await r.http.put(CANARY, json={"version": 2}, headers={"if-match": '"2"'})
            assert (again.status_code, error_of(again)["code"]) == (400, "prompt_canary_refused")
    stages = [line["stage"] for line in logs if line["event"] == "a canary has changed"]
    assert stages == [Stage.WIDENING, Stage.WIDENING, Stage.WHOLE]


async def test_a_bad_one_goes_back_by_itself_and_nobody_is_served_it_afterwards(rig: OpenRig) -> None:
    with capture_logs() as logs:
        async with on_trial(rig, small=say("no"), large=say("yes")) as r:
            seen = await asked_until(r, lambda: not trial(r).runs)
            assert seen["2"] < 30
            told = await now(r)
            assert (told["stage"], told["share"], told["passed"]) == ("back", 0.0, 0)
            assert "difference at most" in told["why"]
            before = len(r.engines["small"].calls)
            after = [await ask(r) for _ in range(60)]
            assert {answer.headers["x-prompt-version"] for answer in after} == {"1"}
            assert len(r.engines["small"].calls) == before
            [last, *_] = (await r.http.get(f"{LABEL}/history")).json()["data"]
            assert (last["by"], last["version"], "is back" in last["message"]) == ("canary", 1, True)
            [listed] = (await r.http.get("/v1/prompts")).json()["data"]
            assert listed["canaries"]["production"] == {"version": 2, "stage": "back", "share": 0.0}
            again = await r.http.put(CANARY, json={"version": 2}, headers=AT_ONE)
            assert "went back" in error_of(again)["message"]
            assert await r.metric("pointsman_canaries_total", stage="back") == 1
    warned = [line for line in logs if line["event"] == "a canary has changed" and line["log_level"] == "warning"]
    assert [(line["version"], line["stage"]) for line in warned] == [(f"{PROMPT}@2", Stage.BACK)]


async def test_what_callers_tell_may_end_it_and_does_not_prove_it(rig: OpenRig) -> None:
    """Nothing is compared: so passes that only callers tell leave it where it is."""
    async with on_trial(rig, small=say("yes"), large=say("yes"), learning=NOTHING_COMPARED) as r:

        async def tell(value: bool, most: int) -> None:
            told = 0
            while told < most and trial(r).runs:
                answer = await ask(r)
                if answer.headers["x-pointsman-basis"] == "canary":
                    said = {"request_id": answer.headers["x-request-id"], "name": "correct", "value": value}
                    assert (await r.http.post("/v1/feedback", json=said)).status_code == 200
                    told += 1

        await tell(True, 3)
        await r.runtime.ledger.flush()
        first = await now(r)
        assert (first["stage"], first["total"], first["doubts"]["feedback"]["passed"]) == ("widening", 0, 3)
        await tell(False, 30)
        told = await now(r)
        assert told["stage"] == "back"
        assert told["why"].startswith("feedback: passed 3/")


async def test_an_answer_in_the_wrong_form_counts_against_it(rig: OpenRig) -> None:
    async with on_trial(rig, small=say("no JSON"), large=say("{}"), learning=NOTHING_COMPARED) as r:
        for _ in range(200):
            await ask(r, response_format={"type": "json_object"})
            if (told := await now(r))["stage"] == "back":
                break
        assert told["why"].startswith("assertion: passed 0/")


async def test_an_alarm_of_run_time_evidence_ends_it(rig: OpenRig) -> None:
    async with on_trial(rig, small=say("yes"), large=say("yes")) as r:
        runtime = r.builder.runtime
        shown = Shown(Verdict.SUSPENDED, 0.1, 0.5, "passed 5/20", Cause.RATE_FELL)
        learned = {(B.key, runtime.catalog.models["small"].build): shown}
        canaries.watch_canaries(CanaryStore(runtime.prompts), runtime.standing, runtime.knowledge.learning(learned))
        await r.builder.publish()
        assert trial(r).canary.why == "pass_rate_fell: passed 5/20"
        assert (await ask(r)).headers["x-prompt-version"] == "1"


@pytest.mark.parametrize("fields", [{"model": "small"}, {"model": "large"}])
async def test_whoever_names_a_model_or_a_version_is_not_drawn(rig: OpenRig, fields: dict[str, Any]) -> None:
    async with on_trial(rig) as r:
        named = {"id": PROMPT, "variables": {"text": "t"}}
        for _ in range(40):
            answer = await r.http.post(CHAT, json={"prompt": named, **fields})
            assert answer.headers["x-prompt-version"] == "1"
            numbered = await r.http.post(CHAT, json={"prompt": {**named, "version": "1"}})
            assert numbered.headers["x-prompt-version"] == "1"
            best = await r.http.post(CHAT, json={"prompt": named}, headers={"x-pointsman-quality": "best"})
            assert best.headers["x-prompt-version"] == "1"


async def test_it_rests_while_its_receipts_are_stale_and_goes_on_with_new_ones(rig: OpenRig) -> None:
    async with on_trial(rig, small=say("yes"), large=say("yes")) as r:
        other = Suite(tuple(replace(case, id=f"{case.id}x") for case in SUITE.cases), Bars("0.8"))
        assert (await r.http.put(f"{PATH}/suite", json=document_of(other))).status_code == 200
        assert r.builder.runtime.standing.shares == {}
        assert {(await ask(r)).headers["x-prompt-version"] for _ in range(30)} == {"1"}
        for tier in ("small", "large"):
            made = receipt(B, tier, lineup=lineup(r), suite=other).document()
            assert (await r.http.post(f"{PATH}/receipts", json=made)).status_code == 200
        assert "2" in {(await ask(r)).headers["x-prompt-version"] for _ in range(60)}


# The door.


async def test_no_version_is_tried_that_the_gate_would_not_let_through(rig: OpenRig) -> None:
    async with on_trial(rig, begin=False) as r:
        worse = template("Say no.")
        assert (await r.http.post("/v1/prompts", json={"id": PROMPT, "template": canonical(worse)})).status_code == 200
        shut = await r.http.put(CANARY, json={"version": 3}, headers=AT_ONE)
        assert (shut.status_code, shut.json()["error"]["code"]) == (409, "prompt_gate")
        assert {row["tier"] for row in shut.json()["error"]["rows"]} == {"small", "large"}
        assert (await r.http.get(CANARY)).status_code == 404


async def test_it_begins_from_where_the_label_was_seen_only_and_one_at_a_time(rig: OpenRig) -> None:
    async with on_trial(rig, begin=False) as r:
        said = {"version": 2}
        blind = await r.http.put(CANARY, json=said)
        stale = await r.http.put(CANARY, json=said, headers={"if-match": '"2"'})
        assert (blind.status_code, stale.status_code) == (428, 412)
        for wrong in ({"tier": "large"}, {"tier": "tiny"}, {"version": 1}, {"excluded": ["small"]}):
            refused = await r.http.put(CANARY, json={**said, **wrong}, headers=AT_ONE)
            assert (refused.status_code, error_of(refused)["code"]) == (400, "prompt_canary_refused"), wrong
        assert (await r.http.put(CANARY, json=said, headers=AT_ONE)).status_code == 200
        assert "stop it first" in error_of(await r.http.put(CANARY, json=said, headers=AT_ONE))["message"]
        assert (await r.http.delete(CANARY, headers={"if-match": '"2"'})).status_code == 412
        assert trial(r).runs


async def test_one_that_was_stopped_goes_on_where_it_was(rig: OpenRig) -> None:
    """Nobody tries until it passes: what was counted stays."""
    async with on_trial(rig, small=say("yes"), large=say("yes")) as r:
        await asked_until(r, lambda: trial(r).canary.place == 1)
        stopped = (await r.http.delete(CANARY, headers=AT_ONE)).json()
        assert (stopped["stage"], stopped["share"], stopped["why"][:14]) == ("stopped", 0.0, "stopped by ann")
        assert {(await ask(r)).headers["x-prompt-version"] for _ in range(20)} == {"1"}
        again = (await r.http.put(CANARY, json={"version": 2}, headers=AT_ONE)).json()
        assert (again["stage"], again["share"], again["place"]) == ("widening", 0.6, 1)


async def test_a_label_that_is_moved_ends_its_canary(rig: OpenRig) -> None:
    async with on_trial(rig) as r:
        assert (await r.http.put(LABEL, json={"version": 2}, headers=AT_ONE)).status_code == 200
        told = (await r.http.get(CANARY)).json()
        assert (told["stage"], "went to version 2" in told["why"]) == ("stopped", True)
        assert r.builder.runtime.standing.shares == {}


async def test_it_begins_and_stops_under_load_without_a_failed_request(rig: OpenRig) -> None:
    async with on_trial(rig, begin=False, small=say("yes"), large=say("yes")) as r:
        statuses: Counter[int] = Counter()
        told: set[tuple[str, str, str]] = set()
        running = True

        async def client() -> None:
            body = {"prompt": {"id": PROMPT, "variables": {"text": "t"}}}
            while running:
                answer = await r.http.post(CHAT, json=body)
                statuses[answer.status_code] += 1
                headers = answer.headers
                told.add((headers["x-prompt-version"], headers["x-prompt-variant"], headers["x-pointsman-model"]))

        clients = [asyncio.create_task(client()) for _ in range(6)]
        for _ in range(6):
            assert (await r.http.put(CANARY, json={"version": 2}, headers=AT_ONE)).status_code == 200
            seen = statuses[200]
            await until(lambda seen=seen: statuses[200] > seen + 20, 20)  # type: ignore[misc]
            assert (await r.http.delete(CANARY, headers=AT_ONE)).status_code == 200
        running = False
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
        assert told == {("1", "base", "large"), ("2", "small", "small")}


async def test_outcomes_that_many_tell_at_once_make_each_step_once(rig: OpenRig) -> None:
    """Twelve threads with a store each, as many processes have; no outcome is lost and none counts twice."""
    async with on_trial(rig) as r:
        runtime = r.builder.runtime
        terms = runtime.settings.learning.terms(runtime.knowledge.bar)
        key = (B.key, runtime.catalog.models["small"].build)
        at = trial(r).began_at.timestamp() + 1

        def process(database: Engine) -> None:
            outcomes, store = Outcomes(RecordStore(database)), CanaryStore(LibraryStore(database, lineup(r)))
            for _ in range(4):
                outcomes.tell(Source.SHADOW, key, passed=True, at=at, tried=(PROMPT, 2))
            while outcomes.write(runtime.knowledge, terms, store) == 0:
                pass
            database.dispose()

        databases = [open_database(runtime.settings.database) for _ in range(12)]
        await asyncio.gather(*(asyncio.to_thread(process, database) for database in databases))
        told = (await r.http.get(CANARY)).json()
        assert (told["place"], told["total"]) == (1, 48 - FEW[0].outcomes)
        widened = [m for m in (await r.http.get(f"{LABEL}/history")).json()["data"] if "takes 60%" in m["message"]]
        assert len(widened) == 1
