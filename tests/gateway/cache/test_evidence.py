"""A kept answer for a prompt alike is judged like a model: counted on pairs, against the operator's bar."""

import json
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.cache.embedding import CacheError, local_embedder
from gateway.cache.evidence import Pair, count_pairs, proved, read_pairs, read_tallies, record
from gateway.cache.neighbours import GROUP_LIMIT, GROUPS_LIMIT, Neighbours
from gateway.cache.opening import CacheOpener
from gateway.cache.section import CacheSection, SemanticTemplate
from gateway.meter import Metrics
from gateway.settings import load_settings
from router.bar import Bar, Tally
from tests.gateway.cache.worlds import Words

BAR = Bar(0.95, margin=0.1)
HOLDS, FAILS = Tally(100, 100, 0, 0, 100), Tally(50, 100, 50, 0, 100)


def test_only_pairs_as_alike_as_the_threshold_count() -> None:
    pairs = [
        Pair(asked="capital France", cached="France capital", right=True),
        Pair(asked="capital France", cached="France capital", right=False),
        Pair(asked="capital France", cached="France capital", right=True, fresh_right=False),
        Pair(asked="capital France", cached="rain", right=False),
    ]
    counted = count_pairs(pairs, Words(), 0.9)
    assert (counted.tally, counted.pairs) == (Tally(passed=2, total=3, lost=1, won=1, paired=3), 4)


def test_what_is_recorded_is_read_and_replaced(tmp_path: Path) -> None:
    assert read_tallies(tmp_path) == {}
    record(tmp_path, "t", 0.9, FAILS)
    record(tmp_path, "t", 0.95, FAILS)
    record(tmp_path, "t", 0.9, HOLDS)
    assert read_tallies(tmp_path) == {("t", 0.9): HOLDS, ("t", 0.95): FAILS}


def test_a_template_is_proved_by_its_own_tally_at_its_own_threshold() -> None:
    tallies = {("good", 0.9): HOLDS, ("bad", 0.9): FAILS, ("other", 0.95): HOLDS}
    wanted = [SemanticTemplate(template=name, threshold=0.9) for name in ("good", "bad", "other")]
    thresholds, missing = proved(wanted, tallies, BAR)
    assert thresholds == {"good": 0.9}
    assert "semantic@0.9 of template bad: passed 50/100" in missing[0]
    assert "nothing is recorded" in missing[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [('{"asked": "a"}', "cached"), ("{", "JSON"), ('{"asked": "a", "cached": "b", "right": true, "x": 1}', "x")],
)
def test_a_wrong_pair_is_told_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    good = json.dumps({"asked": "a", "cached": "b", "right": True})
    path.write_text(f"{good}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(CacheError, match=said) as refused:
        read_pairs(path)
    assert str(refused.value).startswith(f"{path}:3: ")


def test_counts_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "semantic_cache.json").write_text("[{}]", encoding="utf-8")
    with pytest.raises(CacheError, match="cannot be read"):
        read_tallies(tmp_path)


def opened(tmp_path: Path, **cache: object) -> object:
    section = CacheSection.model_validate({"enabled": True, **cache})
    settings = load_settings(data_dir=tmp_path, cache=section)
    return CacheOpener(local_embedder).open(settings, Metrics(CollectorRegistry()))


def test_the_embedder_that_ships_is_taken_by_default() -> None:
    near, far, asked = local_embedder()(["the capital of France", "how to bake bread", "France's capital city"])
    alike = [sum(a * b for a, b in zip(asked, other, strict=True)) for other in (near, far)]
    assert alike[0] > 0.7 > alike[1]


def test_what_a_cache_lacks_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "models.embedder", None)  # as it is where the extra is not installed
    with pytest.raises(CacheError, match="redis_url"):
        opened(tmp_path, backend="redis")
    record(tmp_path, "t", 0.9, HOLDS)
    with pytest.raises(CacheError, match="embedder"):
        opened(tmp_path, semantic=[{"template": "t", "threshold": 0.9}])


def test_answers_stay_when_settings_are_read_again() -> None:
    opener = CacheOpener(Words)
    metrics = Metrics(CollectorRegistry())
    written = [(True, 60), (False, 60), (True, 60), (True, 61)]
    sections = [CacheSection(enabled=enabled, ttl_seconds=ttl_seconds) for enabled, ttl_seconds in written]
    caches = [opener.open(load_settings(cache=section), metrics) for section in sections]
    stores = [made.store if made else None for made in caches]
    assert stores[1] is None
    assert stores[0] is stores[2] is not stores[3]


def test_neighbours_are_bounded_and_the_newest_stay() -> None:
    neighbours = Neighbours(Words())
    vectors = [neighbours.vector(word) for word in ("capital", "rain")]
    for number in range(GROUP_LIMIT + 3):
        neighbours.add("group", str(number), vectors[number % 2])
    keys, held = neighbours._groups["group"]
    assert (len(keys), len(held), keys[0], keys[-1]) == (GROUP_LIMIT, GROUP_LIMIT, "3", str(GROUP_LIMIT + 2))
    for number in range(GROUPS_LIMIT):
        neighbours.add(f"group {number}", "key", vectors[0])
    assert "group" not in neighbours._groups
    assert len(neighbours._groups) == GROUPS_LIMIT


def test_a_key_that_is_added_again_stands_once() -> None:
    neighbours = Neighbours(Words())
    for word in ("capital", "rain"):
        neighbours.add("group", "key", neighbours.vector(word))
    nearest = neighbours.nearest("group", neighbours.vector("rain"))
    assert nearest is not None
    assert (nearest[0], round(nearest[1], 6)) == ("key", 1.0)
    assert len(neighbours._groups["group"][0]) == 1
