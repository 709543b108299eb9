"""A probe asks prompts that say something of all others, and a profile is between what it saw and what is known."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.difficulty import SolveModel
from router.ladder import Split, split_of
from router.outcomes import Outcome, read_looks, read_outcomes
from router.probe import CALIBRATE_PROMPTS, FIT_PROMPTS, ProbeError, balanced, choose, profile, shares_of
from router.probed import read_probe_set
from tests.router.world import LARGE, ONES, SMALL, ZEROS, ids, looks, outcome

SPREAD = {"easy": 0.0, "mixed": 0.2, "hard": 0.0}
TASKS = tuple(SPREAD)


def solves(bias: float, weight: float) -> SolveModel:
    return SolveModel(bias, (weight, *ZEROS[1:]), ZEROS, ONES)


def both_answered(split: Split, number: int) -> list[Outcome]:
    """Models differ on the task `mixed` alone."""
    rows = []
    for place, prompt_id in enumerate(ids(split, number)):
        task = TASKS[place % 3]
        rows.append(outcome(prompt_id, SMALL, task == "easy" or (task == "mixed" and place % 2 == 0), task=task))
        rows.append(outcome(prompt_id, LARGE, task != "hard", task=task))
    return rows


def test_the_committed_set_is_of_known_prompts_of_every_task_and_none_is_kept_for_judging() -> None:
    chosen = read_probe_set()
    tasks = {o.prompt_id: o.task for o in read_outcomes()}

    assert len(chosen) == len(set(chosen)) <= 300
    assert {tasks[p] for p in chosen} == set(tasks.values())
    assert Counter(map(split_of, chosen)) == {Split.FIT: FIT_PROMPTS, Split.CALIBRATE: CALIBRATE_PROMPTS}
    assert set(chosen) <= read_looks().keys()


def test_any_beginning_of_the_committed_set_has_prompts_to_fit_on_and_to_calibrate_on() -> None:
    for size in range(30, 301, 30):
        splits = Counter(map(split_of, read_probe_set()[:size]))
        assert splits[Split.CALIBRATE] == pytest.approx(size / 3, abs=2)


def test_tasks_on_which_known_models_differ_get_more_prompts_and_none_gets_none() -> None:
    rows = [o for split in Split for o in both_answered(split, 900)]
    tasks = {o.prompt_id: o.task for o in rows}
    chosen = choose(rows)

    fit = Counter(tasks[p] for p in chosen if split_of(p) is Split.FIT)
    assert fit["mixed"] > 3 * fit["easy"]
    assert min(fit.values()) > FIT_PROMPTS // 10
    assert Split.TEST not in map(split_of, chosen)


def test_which_prompts_of_a_task_are_chosen_does_not_depend_on_their_outcomes() -> None:
    """Else they would say nothing of the task's other prompts."""
    rows = both_answered(Split.FIT, 900)
    turned = [replace(o, correct=not o.correct) for o in rows]

    assert choose(rows) == choose(turned)


def test_prompts_that_one_model_alone_has_answered_are_not_chosen() -> None:
    rows = both_answered(Split.FIT, 60)
    alone = rows[0].prompt_id
    chosen = choose([o for o in rows if (o.prompt_id, o.model) != (alone, LARGE.name)])

    assert len(chosen) == 59
    assert alone not in chosen


@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1),
    size=st.integers(1, 100),
)
def test_any_beginning_is_shared_out_as_asked(counts: dict[str, int], size: int) -> None:
    tasks = {f"{task}{n}": task for task, count in counts.items() for n in range(count)}
    shares = shares_of({task: float(count) for task, count in counts.items()})
    order = balanced(tasks, shares, size)

    assert len(order) == len(set(order)) == min(size, len(tasks))
    assert order == balanced(tasks, shares, len(tasks))[:size]
    assert sum(shares.values()) == pytest.approx(1)


def test_a_profile_comes_to_what_was_seen_where_much_was() -> None:
    luck = random.Random(3)
    prompts = ids(Split.FIT, 400)
    seen_of = {p: looks(luck.gauss(0, 1)) for p in prompts}
    truth = solves(2.0, -1.0)
    rows = [outcome(p, SMALL, luck.random() < truth.chance(seen_of[p])) for p in prompts]
    found = profile(rows, seen_of, [solves(-1.0, -0.5), solves(0.0, -1.5), solves(0.5, -1.0)])

    assert found.bias == pytest.approx(truth.bias, abs=0.4)
    assert found.weights[0] == pytest.approx(truth.weights[0], abs=0.3)


def test_a_profile_of_few_prompts_keeps_near_to_the_known_ones() -> None:
    rows = [outcome(p, SMALL, True) for p in ids(Split.FIT, 3)]
    seen_of = {o.prompt_id: looks(float(place)) for place, o in enumerate(rows)}
    found = profile(rows, seen_of, [solves(0.0, -1.0), solves(0.2, -1.1)])

    assert 0 < found.bias < 2, "it is better than those known, as far as three answers tell"
    assert found.weights[0] == pytest.approx(-1.05, abs=0.1)


def test_known_models_of_other_scales_say_the_same() -> None:
    rows = [outcome(p, SMALL, place % 3 > 0) for place, p in enumerate(ids(Split.FIT, 30))]
    seen_of = {o.prompt_id: looks(place / 10) for place, o in enumerate(rows)}
    stretched = SolveModel(1.0, (-2.0, *ZEROS[1:]), (1.0, *ZEROS[1:]), (2.0, *ONES[1:]))  # 1 - (x - 1) = 2 - x
    known = [solves(0.5, -0.8)]
    one, other = (profile(rows, seen_of, [*known, same]) for same in (stretched, solves(2.0, -1.0)))

    for value in (-2.0, 0.0, 3.0):
        assert one.chance(looks(value)) == pytest.approx(other.chance(looks(value)), abs=1e-6)


def test_without_anything_known_or_seen_there_is_no_profile() -> None:
    rows = [outcome("p", SMALL, True)]
    with pytest.raises(ProbeError, match="pointsman ladder fit"):
        profile(rows, {"p": looks(0.0)}, [])
    with pytest.raises(ProbeError, match="no outcomes"):
        profile([], {}, [solves(0, 0)])
