"""What a probe found is kept beside what ships, and never in place of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.catalog import BUILTIN_CATALOG, Model, load_catalog
from router.bar import Bar
from router.difficulty import load_difficulty
from router.knowledge import load_knowledge
from router.ladder import Split, split_of
from router.outcomes import Outcome, read_outcomes
from router.probed import NOTHING, Probed, add_probed, read_probe_set, read_probed
from tests.router.world import SMALL, model, outcome, solves

BAR = Bar(0.95, margin=0.1)
NEW = model("new", 0)
SAFE = load_catalog(BUILTIN_CATALOG).chatting[-1]


def probed_as(like: Model, of: Model, share: int = 1) -> list[Outcome]:
    """*of* answered the probe set as *like* did, and the same was expected of it."""
    wanted = set(read_probe_set())
    return [
        replace(o, model=of.name, build=of.build, chance=o.chance if split_of(o.prompt_id) is Split.CALIBRATE else None)
        for o in read_outcomes()
        if o.build == like.build and o.prompt_id in wanted
    ]


def test_nothing_is_known_where_nobody_has_probed(tmp_path: Path) -> None:
    assert read_probed(tmp_path / "nowhere") == NOTHING


def test_what_was_found_is_read_back_and_a_new_probe_takes_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "probed"
    add_probed(folder, solves(1.0), [outcome("p1", SMALL, True)])
    add_probed(folder, solves(2.0), [outcome("p1", NEW, False)])
    add_probed(folder, solves(3.0), [outcome("p2", SMALL, False)])
    found = read_probed(folder)

    assert {build: of.bias for build, of in found.difficulty.models.items()} == {SMALL.build: 3.0, NEW.build: 2.0}
    assert {(o.model, o.prompt_id) for o in found.outcomes} == {("small", "p2"), ("new", "p1")}
    assert found.names == {SMALL.build: "small", NEW.build: "new"}


@pytest.mark.parametrize("broken", ["difficulty.json", "outcomes.csv"])
def test_a_broken_folder_is_told_with_the_remedy(tmp_path: Path, broken: str) -> None:
    add_probed(tmp_path, solves(1.0), [outcome("p1", SMALL, True)])
    (tmp_path / broken).write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="remove it, and probe the models anew: pointsman router probe"):
        read_probed(tmp_path)


def test_a_probed_model_is_judged_by_its_outcomes_and_its_profile() -> None:
    """One that answers as the safe tier does holds the bar on some score; without the probe nothing is known of it."""
    rows = probed_as(SAFE, NEW)
    probed = Probed(
        replace(load_difficulty(), models={NEW.build: load_difficulty().models[SAFE.build]}), rows, {NEW.build: "new"}
    )
    known, before = load_knowledge((NEW, SAFE), BAR, probed=probed), load_knowledge((NEW, SAFE), BAR)

    assert NEW.build in known.thresholds
    assert f"{sum(split_of(o.prompt_id) is Split.CALIBRATE for o in rows)}" in known.thresholds[NEW.build].says
    template = rows[0].template
    tally = known.evidence.about(template, NEW.build)
    assert tally is not None
    assert tally.total == sum(o.template == template for o in rows)
    assert (before.thresholds, before.evidence.about(template, NEW.build)) == ({}, None)


def test_what_ships_has_the_last_word_on_the_builds_that_it_knows() -> None:
    turned = [replace(o, correct=not o.correct) for o in probed_as(SAFE, SAFE)]
    probed = Probed(replace(load_difficulty(), models={SAFE.build: solves(-9.0)}), turned, {SAFE.build: SAFE.name})
    models = load_catalog(BUILTIN_CATALOG).chatting

    assert load_knowledge(models, BAR, probed=probed) == load_knowledge(models, BAR)
