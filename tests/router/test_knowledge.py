"""What the router knows comes from FIT and CALIBRATE prompts; those kept for judging it are never looked at."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalog import load_catalog
from router.bar import Bar, Tally, Verdict, parse_bar
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.knowledge import load_knowledge, make_knowledge
from router.ladder import Split, split_of
from router.outcomes import Outcome
from tests.router.world import LARGE, MIDDLE, SMALL, THREE, ids, looks, outcome, solves

BAR = Bar(0.9, margin=0.2)
PROMPTS = {split: ids(split, 60) for split in Split}
EASE = {p: place / 60 for split in Split for place, p in enumerate(PROMPTS[split])}
DIFFICULTY = Difficulty({SMALL.build: solves(-2, 4), MIDDLE.build: solves(0, 4), LARGE.build: solves(3)})


def _world(seed: int) -> list[Outcome]:
    """Every model answered every prompt; the higher the first feature, the more often the small ones are right."""
    chance = random.Random(seed)
    rows = []
    for prompt_id, ease in EASE.items():
        rows.append(outcome(prompt_id, SMALL, chance.random() < 2 * ease))
        rows.append(outcome(prompt_id, MIDDLE, chance.random() < 0.6 + ease))
        rows.append(outcome(prompt_id, LARGE, chance.random() < 0.97))
    models = DIFFICULTY.models
    return [replace(o, chance=models[o.build].chance(looks(EASE[o.prompt_id]), o.template)) for o in rows]


def _known(rows: Sequence[Outcome]) -> Knowledge:
    return make_knowledge(THREE, BAR, rows, DIFFICULTY)


def _flipped(rows: Sequence[Outcome], split: Split) -> list[Outcome]:
    return [replace(o, correct=not o.correct) if split_of(o.prompt_id) is split else o for o in rows]


@given(seed=st.integers(), share=st.floats(min_value=0, max_value=1))
@settings(max_examples=25)
def test_nothing_about_a_test_prompt_changes_what_is_known(seed: int, share: float) -> None:
    rows = _world(seed)
    others = [o for o in rows if split_of(o.prompt_id) is not Split.TEST]
    made_up = random.Random(seed)
    kept_back = [o for o in rows if split_of(o.prompt_id) is Split.TEST and made_up.random() < share]
    made_up_outcomes = [replace(o, correct=made_up.random() < share) for o in kept_back]

    assert _known(made_up_outcomes + others) == _known(others) == _known(rows)


@given(
    right=st.dictionaries(
        st.sampled_from([p for split in Split for p in PROMPTS[split][:10]]), st.tuples(st.booleans(), st.booleans())
    )
)
def test_test_prompts_are_never_counted(right: dict[str, tuple[bool, bool]]) -> None:
    rows = [outcome(p, SMALL, small) for p, (small, _) in right.items()]
    rows += [outcome(p, LARGE, large) for p, (_, large) in right.items()]
    may_know = [pair for p, pair in right.items() if split_of(p) is not Split.TEST]

    tally = _known(rows).evidence.about("template", SMALL.build) or Tally()

    assert (tally.passed, tally.total) == (sum(small for small, _ in may_know), len(may_know))
    assert (tally.lost, tally.won) == (may_know.count((False, True)), may_know.count((True, False)))
    assert tally.paired == len(may_know)


def test_thresholds_come_from_outcomes_that_the_solve_models_have_not_seen() -> None:
    """Others prove nothing about them; these have no chance written beside."""
    rows = _world(seed=1)
    known = _known(rows)
    seen = [o if split_of(o.prompt_id) is Split.CALIBRATE else replace(o, chance=None) for o in rows]
    others = [o for o in seen if o.chance is not None]

    assert set(known.thresholds) == {SMALL.build}
    assert SMALL.build in _known(seen).thresholds
    assert _known(seen).thresholds[SMALL.build].says != known.thresholds[SMALL.build].says
    of_others = make_knowledge(THREE, BAR, others, DIFFICULTY).thresholds
    assert of_others == _known(seen).thresholds


def test_a_build_that_outcomes_have_decided_on_has_no_threshold() -> None:
    """On its template nobody looks at prompts, and a threshold is calibrated on what it will decide."""
    known = _known(_world(seed=1))
    shown = known.about("template", MIDDLE.build)

    assert shown is not None
    assert shown.verdict is Verdict.HOLDS
    assert MIDDLE.build not in known.thresholds


def test_evidence_is_both_fit_and_calibration_prompts() -> None:
    rows = _world(seed=1)

    for split in (Split.FIT, Split.CALIBRATE):
        assert _known(_flipped(rows, split)).evidence != _known(rows).evidence


def test_the_safe_tier_has_no_threshold() -> None:
    assert LARGE.build not in _known(_world(seed=1)).thresholds


def test_outcomes_of_builds_that_are_not_served_do_not_matter() -> None:
    """Weights that were replaced have another build: nothing of what was known about the old ones counts."""
    rows = _world(seed=1)
    old = [replace(o, build="old weights", correct=True) for o in rows if o.model == SMALL.name]
    known = _known([o for o in rows if o.model != SMALL.name] + old)

    assert known.evidence.about("template", SMALL.build) is None
    assert SMALL.build not in known.thresholds


def test_models_go_from_the_cheapest_to_the_safe_one() -> None:
    known = _known([])

    assert known.models == THREE
    assert known.safe == LARGE


@pytest.mark.parametrize("bar", ["safe-0.1", "0.9"])
def test_the_shipped_tables_make_knowledge_of_the_shipped_models(bar: str) -> None:
    models = tuple(load_catalog())
    known = load_knowledge(models, parse_bar(bar, 0.95))

    assert known.models == models
    assert known.evidence.tallies
    assert {build for _, build in known.evidence.tallies} <= {model.build for model in models}
    assert set(known.thresholds) <= set(known.difficulty.models)
