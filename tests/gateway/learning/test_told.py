"""Outcomes on their way to the records: none is lost or counted twice, whatever the database does meanwhile."""

from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from gateway.learning import told
from gateway.learning.store import Change, Contended, Key, RecordStore
from gateway.learning.told import Outcomes
from gateway.ledger.database import open_database
from router.bar import Bar, Tally
from router.decision import Knowledge, Mode
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.record import Record, Terms
from router.sources import Source
from tests.router.world import LARGE, SMALL

TERMS = Terms(Bar(0.95, pass_rate=0.9))
KNOWLEDGE = Knowledge((SMALL, LARGE), Evidence({}), Difficulty({}), {}, TERMS.bar)
KEY = ("t", SMALL.build)


class Failing(RecordStore):
    """Raises *problem* as long as there is one."""

    problem: Exception | None = None

    def change(self, key: Key, how: Change, *rest: object) -> Record:
        if self.problem is not None:
            raise self.problem
        return super().change(key, how)


@pytest.fixture
def store(tmp_path: Path) -> Failing:
    return Failing(open_database(f"sqlite:///{tmp_path / 'l.db'}"))


def counted(store: RecordStore) -> dict[Key, Tally]:
    return {kept.key: kept.record.generations[0].tallies.get(Source.SHADOW, Tally()) for kept in store.read()}


def tell(outcomes: Outcomes, key: Key = KEY, *, passed: bool = True, incomparable: bool = False) -> None:
    outcomes.tell(Source.SHADOW, key, passed=passed, at=1.0, incomparable=incomparable)


def test_outcomes_are_written_together_and_once(store: Failing) -> None:
    outcomes = Outcomes(store)
    for passed in (True, True, False):
        tell(outcomes, passed=passed)
    tell(outcomes, ("other", SMALL.build))
    assert (outcomes.write(KNOWLEDGE, TERMS), outcomes.write(KNOWLEDGE, TERMS)) == (4, 0)
    assert counted(store) == {
        KEY: Tally(passed=2, total=3, lost=1, paired=3),
        ("other", SMALL.build): Tally(passed=1, total=1, paired=1),
    }


@pytest.mark.parametrize("problem", [Contended("busy"), OperationalError("x", {}, Exception("gone"))])
def test_what_cannot_be_written_is_written_later(store: Failing, problem: Exception) -> None:
    outcomes = Outcomes(store)
    for template in "abc":
        tell(outcomes, (template, SMALL.build))
    store.problem = problem
    if isinstance(problem, Contended):
        assert outcomes.write(KNOWLEDGE, TERMS) == 0
    else:
        with pytest.raises(OperationalError):
            outcomes.write(KNOWLEDGE, TERMS)
    store.problem = None
    assert outcomes.write(KNOWLEDGE, TERMS) == 3
    assert len(counted(store)) == 3


def test_what_cannot_be_compared_makes_no_record_and_is_a_failure_in_one_that_has_shadows(store: Failing) -> None:
    outcomes = Outcomes(store)
    tell(outcomes, passed=False, incomparable=True)
    outcomes.write(KNOWLEDGE, TERMS)
    assert counted(store) == {}
    tell(outcomes, passed=False, incomparable=True)
    tell(outcomes)
    tell(outcomes, passed=False, incomparable=True)
    outcomes.write(KNOWLEDGE, TERMS)
    assert counted(store) == {KEY: Tally(passed=1, total=2, lost=1, paired=2)}


def test_nothing_is_counted_of_what_is_off_or_served_no_longer(store: Failing) -> None:
    outcomes = Outcomes(store)
    tell(outcomes)
    tell(outcomes, ("t", "another build"))
    tell(outcomes, ("t", LARGE.build))
    outcomes.write(KNOWLEDGE.in_modes(Mode.APPLY, {"t": Mode.OFF}), TERMS)
    assert counted(store) == {}


def test_what_waits_is_bounded(store: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "WAITING_LIMIT", 2)
    outcomes = Outcomes(store)
    for _ in range(3):
        tell(outcomes)
    assert outcomes.write(KNOWLEDGE, TERMS) == 2
