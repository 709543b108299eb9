"""What is learned at run time, through the front door: feedback takes trust away, everybody hears of it, and a restart
or a reload does not forget it.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from sqlalchemy import create_engine, select

from gateway.learning.counting import INPUTS_EVERY, SETTLED, Counter
from gateway.learning.learner import Learner
from gateway.learning.section import LearningSection
from gateway.learning.store import RecordStore
from gateway.ledger.database import open_database
from gateway.ledger.tables import feedback
from gateway.settings import Settings
from models.catalog import Catalog
from prompts.message import template_key
from router import mix
from router.bar import Bar, Cause, Tally, Verdict
from router.decision import Knowledge, Mode
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.record import Observed, Record, Terms, observe
from router.sources import Source
from tests.gateway.stranger import another_http
from tests.gateway.wire import CHAT, OpenRig
from tests.rig import Rig

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "system", "content": "Say whether it is a cat."}, {"role": "user", "content": "Meow."}]
BODY = {"model": "auto", "messages": MESSAGES}
TEMPLATE = template_key({"messages": MESSAGES}) or ""
PATH = "/v1/feedback"
ENOUGH = 40  # wrong answers told by callers that end any trust


def knowing(tally: Tally | None, bar: Bar) -> Any:
    def make(catalog: Catalog, settings: Settings) -> Knowledge:
        models = tuple(catalog)
        tallies = {(TEMPLATE, models[0].build): tally} if tally else {}
        return Knowledge(models, Evidence(tallies), Difficulty({}), {}, bar)

    return make


PROVED = knowing(Tally(passed=100, total=100, paired=100), Bar(0.95, pass_rate=0.9))
UNPROVED = knowing(None, Bar(0.95, pass_rate=0.9))


async def ask(r: Rig) -> Mapping[str, str]:
    response = await r.http.post(CHAT, json=BODY)
    assert response.status_code == 200
    return response.headers


async def tell(r: Rig, request_id: str, value: object, name: str = "correct") -> None:
    body = {"request_id": request_id, "name": name, "value": value}
    assert (await r.http.post(PATH, json=body)).status_code == 200


async def learn(r: Rig) -> None:
    """What the gateway does by itself every second."""
    await r.builder.count()
    await r.builder.learn()


async def record_of(r: Rig, build: str = "small") -> Record | None:
    found = await anyio.to_thread.run_sync(lambda: list(r.runtime.records.read(template=TEMPLATE)))
    return next((kept.record for kept in found), None)


async def told(r: Rig) -> Tally:
    record = await record_of(r)
    return record.generations[0].tallies.get(Source.FEEDBACK, Tally()) if record else Tally()


@pytest.mark.parametrize("bar", [Bar(0.95, pass_rate=0.9), Bar(0.95, margin=0.1)])
async def test_callers_who_tell_of_wrong_answers_send_a_template_back_to_the_safe_tier(rig: OpenRig, bar: Bar) -> None:
    async with rig(knowledge_maker=knowing(Tally(passed=100, total=100, paired=100), bar)) as r:
        ids = []
        for _ in range(ENOUGH):
            headers = await ask(r)
            ids.append(headers["x-request-id"])
        assert headers["x-pointsman-model"] == "small"
        for request_id in ids:
            await tell(r, request_id, False)
        await learn(r)
        headers = await ask(r)
        assert headers["x-pointsman-model"] == "large"
        assert "suspended (pass_rate_fell)" in headers["x-pointsman-reason"]


async def test_praise_alone_never_earns_trust(rig: OpenRig) -> None:
    async with rig(knowledge_maker=UNPROVED) as r:
        pinned = {**BODY, "model": "small"}
        for _ in range(ENOUGH):
            response = await r.http.post(CHAT, json=pinned)
            await tell(r, response.headers["x-request-id"], 1.0, "score")
        await learn(r)
        assert await told(r) == Tally(passed=ENOUGH, total=ENOUGH)
        assert (await ask(r))["x-pointsman-model"] == "large"


async def test_feedback_counts_once_however_often_and_the_last_word_counts(rig: OpenRig) -> None:
    async with rig(knowledge_maker=PROVED) as r:
        request_id = (await ask(r))["x-request-id"]
        for value, passed in ((True, 1), (True, 1), (False, 0), (0.2, 0), (0.9, 1)):
            await tell(r, request_id, value)
            await learn(r)
            await learn(r)
            assert await told(r) == Tally(passed=passed, total=1)
        await tell(r, request_id, 0.1, "score")  # another name is another outcome
        await learn(r)
        assert await told(r) == Tally(passed=1, total=2)


async def test_two_who_count_at_once_count_once(rig: OpenRig) -> None:
    """Several machines may share one database."""
    async with rig(knowledge_maker=PROVED) as r:
        for request_id in [(await ask(r))["x-request-id"] for _ in range(10)]:
            await tell(r, request_id, True)
        await asyncio.gather(*(r.builder.count() for _ in range(4)))
        await learn(r)
        assert await told(r) == Tally(passed=10, total=10)


async def test_contradictions_told_before_anybody_counts_leave_the_last(rig: OpenRig) -> None:
    async with rig(knowledge_maker=PROVED) as r:
        request_id = (await ask(r))["x-request-id"]
        for value in (True, False, True, False):
            await tell(r, request_id, value)
        await learn(r)
        assert await told(r) == Tally(passed=0, total=1)


@pytest.mark.parametrize(
    ("name", "value"), [("feedback", True), ("correct", "yes"), ("score", 7), ("score", -1), ("stars", 1)]
)
async def test_what_is_no_outcome_is_kept_and_not_counted(rig: OpenRig, name: str, value: object) -> None:
    async with rig(knowledge_maker=PROVED) as r:
        await tell(r, (await ask(r))["x-request-id"], value, name)
        await learn(r)
        assert await record_of(r) is None
        assert await anyio.to_thread.run_sync(_due, r) == []


async def test_names_and_values_are_the_owners(rig: OpenRig) -> None:
    learning = LearningSection(feedback={"stars": 0.8})
    async with rig(knowledge_maker=PROVED, learning=learning) as r:
        for name, value in (("stars", 0.79), ("stars", 0.8), ("correct", True)):
            await tell(r, (await ask(r))["x-request-id"], value, name)
        await learn(r)
        assert await told(r) == Tally(passed=1, total=2)


async def test_unknown_and_foreign_requests_leave_nothing(rig: OpenRig) -> None:
    async with rig(knowledge_maker=PROVED) as r, another_http(r) as other:
        request_id = (await ask(r))["x-request-id"]
        for client, id in ((other, request_id), (r.http, "req_nothing")):
            response = await client.post(PATH, json={"request_id": id, "name": "correct", "value": False})
            assert response.status_code == 404
        await learn(r)
        assert await record_of(r) is None


async def test_answers_of_the_safe_tier_and_requests_without_a_template_are_not_counted(rig: OpenRig) -> None:
    async with rig(knowledge_maker=UNPROVED) as r:
        await tell(r, (await ask(r))["x-request-id"], False)
        bare = {"model": "small", "messages": MESSAGES[1:]}
        await tell(r, (await r.http.post(CHAT, json=bare)).headers["x-request-id"], False)
        await learn(r)
        assert await record_of(r) is None
        assert await anyio.to_thread.run_sync(_due, r) == []


@pytest.mark.parametrize(
    ("mode", "model", "counts"),
    [(Mode.APPLY, "small", True), (Mode.OBSERVE, "large", True), (Mode.OFF, "large", False)],
)
@pytest.mark.parametrize("of_all", [True, False])
async def test_the_modes_of_a_template(rig: OpenRig, mode: Mode, model: str, counts: bool, of_all: bool) -> None:
    learning = LearningSection(mode=mode) if of_all else LearningSection(modes={TEMPLATE: mode})
    async with rig(knowledge_maker=PROVED, learning=learning) as r:
        headers = await ask(r)
        assert headers["x-pointsman-model"] == model
        assert ("observed only, small would answer" in headers["x-pointsman-reason"]) == (mode is Mode.OBSERVE)
        pinned = (await r.http.post(CHAT, json={**BODY, "model": "small"})).headers
        await tell(r, pinned["x-request-id"], True)
        await learn(r)
        assert (await told(r)).total == counts


async def test_what_another_process_has_learned_is_known_within_seconds(rig: OpenRig) -> None:
    """The rig's own background task, not called by the test."""
    async with rig(knowledge_maker=UNPROVED) as r:
        small = r.runtime.catalog.models["small"].build
        await anyio.to_thread.run_sync(_prove, r.runtime.settings.database, small)
        async with asyncio.timeout(10):
            while (await ask(r))["x-pointsman-model"] != "small":  # noqa: ASYNC110  # a database
                await asyncio.sleep(0.05)


async def test_trust_and_its_loss_outlive_a_restart_and_a_reload(rig: OpenRig) -> None:
    async with rig(knowledge_maker=PROVED) as r:
        small = r.runtime.catalog.models["small"].build
        for request_id in [(await ask(r))["x-request-id"] for _ in range(ENOUGH)]:
            await tell(r, request_id, False)
        await r.builder.count()
    async with rig(knowledge_maker=PROVED) as r:
        assert (await ask(r))["x-pointsman-model"] == "large"
        built = await r.builder.build(r.runtime.settings)
        shown = built.knowledge.about(TEMPLATE, small)
        assert shown is not None
        assert (shown.verdict, shown.cause) == (Verdict.SUSPENDED, Cause.RATE_FELL)


async def test_a_system_message_with_a_date_in_it_earns_for_its_group_and_is_billed_by_itself(rig: OpenRig) -> None:
    """What is known of the very template has the last word."""

    def dated(day: int) -> dict[str, Any]:
        system = {"role": "system", "content": f"Say whether it is a cat. Today is 2026-11-{day:02d}."}
        return {"model": "auto", "messages": [system, MESSAGES[1]]}

    async with rig(knowledge_maker=UNPROVED) as r:
        said = [(await r.http.post("/v1/decision", json=dated(day))).json() for day in (1, 2)]
        assert said[0]["group"] == said[1]["group"] is not None
        assert said[0]["template"] != said[1]["template"]
        small, group = r.runtime.catalog.models["small"].build, said[0]["group"]
        await anyio.to_thread.run_sync(_prove, r.runtime.settings.database, small, group)
        await learn(r)
        headers = (await r.http.post(CHAT, json=dated(3))).headers
        assert headers["x-pointsman-model"] == "small"
        await tell(r, headers["x-request-id"], True)
        await learn(r)
        [kept] = await anyio.to_thread.run_sync(lambda: list(r.runtime.records.read()))
        assert kept.key == (group, small)
        assert kept.record.generations[0].tallies[Source.FEEDBACK] == Tally(passed=1, total=1)
        [charge] = await r.charges(1)
        assert (charge["evidence_group"], charge["template"] == group) == (group, False)


def test_inputs_of_other_lengths_suspend_a_template(tmp_path: Path) -> None:
    from gateway.ledger.charge import Charge, Outcome
    from gateway.ledger.rows import row_of, statements
    from tests.router.world import LARGE, SMALL

    database = open_database(f"sqlite:///{tmp_path / 'l.db'}")
    store, now = RecordStore(database), [datetime(2026, 1, 1, tzinfo=UTC)]
    counter = Counter(database, store, clock=lambda: now[0])
    tally = Tally(passed=100, total=100, paired=100)
    tables = Evidence({(TEMPLATE, SMALL.build): tally})
    knowledge = Knowledge((SMALL, LARGE), tables, Difficulty({}), {}, Bar(0.95, pass_rate=0.9))
    for tokens, number in ((100, mix.REFERENCE), (3_000, mix.WINDOW)):
        at = now[0] - SETTLED + timedelta(seconds=1)
        made = [
            Charge(
                f"{tokens}-{n}", at, Outcome.OK, 200, None, False, 1, 0.1, "c", "auto", TEMPLATE, "small", SMALL.build
            )
            for n in range(number)
        ]
        with database.begin() as connection:
            for sql, values in statements([row_of(c._replace(prompt_tokens=tokens)) for c in made], "sqlite"):
                connection.exec_driver_sql(sql, values)
        now[0] += INPUTS_EVERY
        counter.count(LearningSection(), knowledge)
    [kept] = store.read()

    assert kept.record.cause is Cause.INPUTS_CHANGED


def _prove(url: str, build: str, template: str = TEMPLATE) -> None:
    database = open_database(url)
    terms = Terms(Bar(0.95, pass_rate=0.9))

    def how(record: Record) -> Record:
        for _ in range(400):
            record = observe(record, Observed(Source.SHADOW, True, 1.0, 1.0, True), terms)
        return record

    RecordStore(database).change((template, build), how)
    database.dispose()


def _due(r: Rig) -> list[Any]:
    database = create_engine(r.runtime.settings.database)
    with database.connect() as connection:
        rows = list(connection.execute(select(feedback.c.request_id).where(feedback.c.due)))
    database.dispose()
    return rows


def test_learners_read_only_what_has_changed_and_forget_what_is_gone(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'l.db'}")
    from tests.router.world import LARGE, SMALL

    now = [datetime.now(UTC)]
    store = RecordStore(database, clock=lambda: now[0])
    learner = Learner(store, clock=lambda: now[0])
    terms = Terms(Bar(0.95, pass_rate=0.9))
    knowledge = Knowledge((SMALL, LARGE), Evidence({}), Difficulty({}), {}, terms.bar)
    assert learner.known(knowledge, terms).learned == {}
    for template in ("a", "b", "c"):
        store.change((template, SMALL.build), lambda record: record)
    known = learner.known(knowledge, terms)
    assert set(known.learned) == {(template, SMALL.build) for template in "abc"}
    assert learner.known(known, terms) is known
    assert store.shrink(1, never={"b"}) == 1  # "c" has the last place, "b" is never forgotten
    now[0] += timedelta(minutes=6)
    assert set(learner.known(known, terms).learned) == {("b", SMALL.build), ("c", SMALL.build)}
