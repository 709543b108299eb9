"""Which replica a call goes to, and which rows a row with replicas stands for."""

from collections import Counter
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.dispatch.replicas import (
    LOAD_BOUND_CALLS,
    LOAD_BOUND_SHARE,
    LONGEST_COOLDOWN_SECONDS,
    Replica,
    choose,
    replicas_of,
)
from models.catalog import Model
from tests.gateway.dispatch.fakes import FakeEngine

names = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=8, unique=True)
loads = st.lists(st.integers(0, 50), min_size=2, max_size=8)
affinities = st.text(min_size=1)
ROW = Model(name="m", engine="openai", tier=0, context_tokens=1, base_url="http://a/v1", replicas=("http://b/v1",))


def idle(names: list[str]) -> list[Replica]:
    return [Replica(name, FakeEngine(), parallel=100) for name in names]


def busy(loads: list[int]) -> list[Replica]:
    return [Replica(f"r{i}", FakeEngine(), parallel=100, in_flight=load) for i, load in enumerate(loads)]


@given(names, affinities, st.randoms())
def test_the_same_affinity_goes_to_the_same_replica_in_whatever_order_they_are_written(
    names: list[str], affinity: str, chance: Random
) -> None:
    home = choose(idle(names), affinity, chance)
    chance.shuffle(names)
    assert choose(idle(names), affinity, chance).name == home.name


@given(names, affinities, st.data())
def test_one_that_leaves_moves_only_its_own(names: list[str], affinity: str, data: st.DataObject) -> None:
    """And one that joins, which is the same read backwards."""
    home = choose(idle(names), affinity, Random(0))
    leaver = data.draw(st.sampled_from(names))
    assume(leaver != home.name)
    names.remove(leaver)
    assert choose(idle(names), affinity, Random(0)).name == home.name


def test_affinities_spread_evenly() -> None:
    replicas = idle(["a", "b", "c", "d"])
    homes = Counter(choose(replicas, f"conversation {i}", Random(0)).name for i in range(4000))
    assert all(900 < calls < 1100 for calls in homes.values()), homes


@given(loads, affinities)
def test_affinity_never_burdens_a_replica_beyond_the_bound(loads: list[int], affinity: str) -> None:
    chosen = choose(busy(loads), affinity, Random(0))
    assert chosen.in_flight <= LOAD_BOUND_SHARE * sum(loads) / len(loads) + LOAD_BOUND_CALLS


def test_affinity_is_kept_while_its_replica_is_only_a_little_busier() -> None:
    replicas = busy([2, 2, 2])
    home = choose(replicas, "x", Random(0))
    home.in_flight = 3
    assert choose(replicas, "x", Random(0)) is home
    home.in_flight = 6
    assert choose(replicas, "x", Random(0)) is not home


@given(st.integers(0, 1000))
def test_the_busiest_is_never_chosen_without_affinity(seed: int) -> None:
    assert choose(busy([1, 9, 1]), None, Random(seed)).in_flight == 1


def test_idle_replicas_share_the_calls_evenly_without_affinity() -> None:
    replicas, chance = idle(["a", "b", "c"]), Random(0)
    for _ in range(300):
        choose(replicas, None, chance).in_flight += 1
    counts = [replica.in_flight for replica in replicas]
    assert max(counts) - min(counts) <= 3


def test_a_cooldown_is_bounded_and_never_shortened() -> None:
    (replica,) = idle(["a"])
    replica.cool(3600.0, now=10.0)
    replica.cool(1.0, now=10.0)
    assert replica.back_at() == 10.0 + LONGEST_COOLDOWN_SECONDS
    assert not replica.admits(replica.back_at() - 0.01)
    assert replica.admits(replica.back_at())


def test_a_row_with_replicas_stands_for_one_row_each_under_the_same_name() -> None:
    rows = replicas_of(ROW)
    assert [row.base_url for row in rows] == ["http://a/v1", "http://b/v1"]
    assert {row.name for row in rows} == {"m"}
    assert [row.address for row in rows] == ["http://a/v1", "http://b/v1"]
    assert [replicas_of(row) for row in rows] == [[row] for row in rows]
