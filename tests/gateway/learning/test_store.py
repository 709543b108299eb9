"""Records in both databases: no change is lost however many change at once, and feedback is counted in all of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from gateway.feedback import FeedbackStore
from gateway.learning import store as store_module
from gateway.learning.counting import Counter
from gateway.learning.section import LearningSection
from gateway.learning.store import Contended, RecordStore
from gateway.ledger.database import open_database
from gateway.ledger.tables import charges
from router.bar import Bar, Cause, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.record import Observed, Record, Terms, observe, restart
from router.sources import Source
from tests.router.world import LARGE, SMALL
from tests.services import postgres_server

TERMS = Terms(Bar(0.95, pass_rate=0.9))
KNOWLEDGE = Knowledge((SMALL, LARGE), Evidence({}), Difficulty({}), {}, TERMS.bar)
THREADS, CHANGES = 4, 15


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path / 'ledger.db'}")
        yield opened
        opened.dispose()
        return
    with postgres_server() as url:
        opened = open_database(url)
        yield opened
        opened.dispose()


def passed(record: Record) -> Record:
    return observe(record, Observed(Source.SHADOW, True, 1.0, 1.0, True), TERMS)


def test_no_change_is_lost_among_many_at_once(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "TRIES", 1_000)
    store = RecordStore(database)

    def work(number: int) -> None:
        for change in range(CHANGES):
            store.change(("shared", "build"), passed)
            store.change((f"{number}-{change}", "build"), passed)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
    kept = {one.key[0]: one.record for one in store.read()}

    assert kept["shared"].generations[0].tallies[Source.SHADOW].total == THREADS * CHANGES
    assert sorted(record.place for record in kept.values()) == list(range(1, THREADS * CHANGES + 2))


def test_who_never_gets_his_turn_is_told(database: Engine) -> None:
    store = RecordStore(database)
    store.change(("a", "build"), passed)

    def overtaken(record: Record) -> Record:
        store.change(("a", "build"), passed)
        return record

    with pytest.raises(Contended, match="template a"):
        store.change(("a", "build"), overtaken)


def test_a_failure_beside_the_change_undoes_it(database: Engine) -> None:
    store = RecordStore(database)

    def fails(connection: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.change(("a", "build"), passed, also=fails)
    assert list(store.read()) == []


def test_a_reset_begins_anew_for_one_model_or_all(database: Engine) -> None:
    store = RecordStore(database)
    for build in ("one", "two"):
        store.change(("a", build), passed)

    def how(record: Record) -> Record:
        return restart(record, Cause.RESET, 2.0)

    assert store.change_existing("a", {"one", "nobody"}, how) == [("a", "one")]
    assert store.change_existing("a", None, how) == [("a", "one"), ("a", "two")]
    assert store.change_existing("b", None, how) == []
    assert [one.record.generations[0].number for one in store.read(template="a")] == [3, 2]


def test_what_is_read_since_then_is_what_has_changed(database: Engine) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    store = RecordStore(database, clock=lambda: now[0])
    store.change(("old", "build"), passed)
    now[0] += timedelta(minutes=1)
    store.change(("new", "build"), passed)

    assert [one.key[0] for one in store.read(now[0])] == ["new"]
    assert [one.updated_at for one in store.read(now[0])] == now


def test_feedback_that_comes_days_late_is_counted_once_and_what_has_no_charge_is_given_up(database: Engine) -> None:
    now = [datetime(2026, 1, 1, 12, tzinfo=UTC)]
    store, told = RecordStore(database), FeedbackStore(database, clock=lambda: now[0])
    counter = Counter(database, store, clock=lambda: now[0])
    row = {"id": "req", "at": now[0], "caller": "c", "template": "t", "build": SMALL.build}
    others = {"attempts": 1, "outcome": "ok", "streamed": False, "total_seconds": 0.1}
    with database.begin() as connection:
        connection.execute(insert(charges).values({**row, **others}))
    now[0] += timedelta(days=3)
    told.put("req", "c", "correct", False, None)
    told.put("unknown", "c", "correct", False, None)
    counts = [counter.count(LearningSection(), KNOWLEDGE) for _ in range(3)]
    now[0] += timedelta(days=2)
    told.put("req", "c", "correct", True, None)
    counts += [counter.count(LearningSection(), KNOWLEDGE) for _ in range(2)]
    [kept] = store.read()

    assert counts == [1, 0, 0, 1, 0]
    assert kept.record.generations[0].tallies == {Source.FEEDBACK: Tally(passed=1, total=1)}
