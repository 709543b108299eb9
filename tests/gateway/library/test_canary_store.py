"""The canaries' rows, in both databases: by whoever is faster, and each step once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from gateway.learning.store import Contended
from gateway.library.canaries import CanaryStore
from gateway.library.errors import CanaryRefused
from gateway.library.records import Trial, Who
from gateway.library.standing import standing_of
from gateway.library.store import LibraryStore
from prompts.promptfile import LabelPolicy, Policy
from prompts.template import Text, Variant
from router.bar import Bar
from router.canary import STEPS, Stage
from router.record import Observed, Terms
from router.sources import Source
from tests.gateway.library.world import LINEUP, NOW, PROMPT, SUITE, prove, rebuilt, template

ANN = Who("ann")
BAR = Bar(0.95, margin=0.1)
B = replace(template(), variants={"small": Variant((Text("system", "Yes!"), Text("user", "{{ text }}")))})
LATER = NOW.timestamp() + 1
PASSED = Observed(Source.SHADOW, True, LATER, LATER, safe_passed=True)
FIRST, SECOND = (step.outcomes for step in STEPS)


def begun(store: LibraryStore, label: str = "production") -> Trial:
    for of in (template(), B):
        store.save(of, origin="api", author="ann")
    store.add_suite(PROMPT, SUITE, author="ann")
    for of in (template(), B):
        prove(store, of, "small", "large")
    store.move_label(PROMPT, label, 1, expected=None, by=ANN)
    return CanaryStore(store).begin(PROMPT, label, 2, "small", expected=1, by=ANN, bar=BAR)


def tell_often(store: LibraryStore) -> None:
    for _ in range(25):
        tell(store)


def tell(store: LibraryStore, count: int = 1, observed: Observed = PASSED) -> None:
    """Again until nobody else is faster, as `gateway.learning.told` does."""
    while True:
        try:
            with store._database.begin() as connection:
                CanaryStore(store).tell_in(connection, PROMPT, 2, [observed] * count, Terms(BAR))
                return
        except Contended:
            continue


def last(store: LibraryStore) -> Trial:
    trial = CanaryStore(store).of(PROMPT, "production")
    assert trial is not None
    return trial


def test_outcomes_of_many_processes_are_each_counted_once(database: Engine, store: LibraryStore) -> None:
    begun(store)
    processes = [LibraryStore(database, LINEUP, clock=lambda: NOW) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tell_often, processes))
    trial = last(store)
    assert (trial.canary.place, trial.canary.tally.total) == (1, 100 - FIRST)
    assert sum("takes 25%" in move.message for move in store.history(PROMPT)) == 1


def test_only_another_share_makes_processes_look_again(store: LibraryStore) -> None:
    begun(store)
    before = store.epoch()
    tell(store, FIRST - 1)
    assert store.epoch() == before
    tell(store)
    assert store.epoch() == before + 1


def test_an_outcome_of_an_answer_from_before_does_not_count(store: LibraryStore) -> None:
    begun(store)
    tell(store, observed=replace(PASSED, served_at=NOW.timestamp() - 1))
    assert last(store).canary.tally.total == 0


def test_a_label_whose_gate_has_shut_does_not_move_and_does_so_once_it_opens(store: LibraryStore) -> None:
    begun(store)
    tell(store, FIRST)
    other = replace(SUITE, cases=tuple(replace(case, id=f"{case.id}x") for case in SUITE.cases))
    store.add_suite(PROMPT, other, author="ann")
    tell(store, SECOND)
    trial = last(store)
    assert (trial.canary.stage, "production does not move" in trial.canary.why) == (Stage.WIDENING, True)
    assert store.library().labels[PROMPT] == {"production": 1}
    assert standing_of(store.records(), store.lineup, NOW).shares == {}
    store.add_suite(PROMPT, SUITE, author="ann")
    tell(store)
    assert (last(store).canary.stage, store.library().labels[PROMPT]) == (Stage.WHOLE, {"production": 2})


def test_it_ends_as_its_beginner_may_where_labels_have_roles(store: LibraryStore) -> None:
    begun(store)
    with store.writing() as connection:
        policy = Policy(labels={"production": LabelPolicy(gated=True, roles=("boss",))})
        store.set_policy_in(connection, policy)
    tell(store, FIRST)
    tell(store, SECOND)
    assert store.library().labels[PROMPT] == {"production": 2}
    assert store.history(PROMPT)[0].by == "canary"


def test_under_another_build_it_rests_and_may_begin_anew(store: LibraryStore) -> None:
    begun(store)
    tell(store, FIRST)
    other = store.serving(rebuilt(LINEUP, ["small"]))
    for of in (template(), B):
        prove(other, of, "small", "large")
    assert f"{PROMPT}@2" in standing_of(store.records(), store.lineup, NOW).tiers
    assert standing_of(other.records(), other.lineup, NOW).shares == {}
    assert standing_of(store.records(), store.lineup, NOW).shares.keys() == {(PROMPT, "production")}
    CanaryStore(other).stop(PROMPT, "production", expected=1, by=ANN)
    anew = CanaryStore(other).begin(PROMPT, "production", 2, "small", expected=1, by=ANN, bar=BAR)
    assert (anew.canary.place, anew.canary.tally.total) == (0, 0)
    assert standing_of(other.records(), other.lineup, NOW).shares.keys() == {(PROMPT, "production")}


def test_a_version_is_tried_under_one_label_at_a_time(store: LibraryStore) -> None:
    begun(store)
    store.move_label(PROMPT, "staging", 1, expected=None, by=ANN)
    with pytest.raises(CanaryRefused, match="is tried under production"):
        CanaryStore(store).begin(PROMPT, "staging", 2, "small", expected=1, by=ANN, bar=BAR)


def test_a_rollback_after_it_goes_to_where_the_label_was(store: LibraryStore) -> None:
    begun(store)
    tell(store, FIRST)
    tell(store, SECOND)
    assert store.rollback(PROMPT, "production", expected=2, by=ANN).went_to == 1
    with pytest.raises(CanaryRefused, match="has passed"):
        CanaryStore(store).begin(PROMPT, "production", 2, "small", expected=1, by=ANN, bar=BAR)
