"""What agreement and log-probabilities tell is found where it was planted, and only there."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from router.agreement import PairTold, Told, area, area_within, signals_of_pair
from router.outcomes import Outcome
from tests.router.world import LARGE, SMALL, outcome

TASKS = ("sums", "words", "dates")


def world(says: Callable[[bool, random.Random], tuple[bool, float]], prompts: int = 120) -> list[Outcome]:
    """Half of the small answers are right. *says*, of one: does the second model agree, and its log-probability."""
    luck = random.Random(5)
    rows = []
    for number in range(prompts):
        right = luck.random() < 0.5
        agrees, logprob = says(right, luck)
        task = TASKS[number % len(TASKS)]
        small = outcome(f"p{number}", SMALL, right, task=task)
        rows.append(replace(small, said="aa", mean_logprob=logprob))
        rows.append(replace(outcome(f"p{number}", LARGE, True, task=task), said="aa" if agrees else "bb"))
    return rows


def found(rows: list[Outcome]) -> tuple[PairTold, dict[str, Told]]:
    pair = signals_of_pair(rows, SMALL.build, LARGE.build)
    return pair, {told.signal: told for told in pair.signals}


def test_a_signal_that_tells_all_ranks_all_and_one_of_luck_ranks_nothing() -> None:
    pair, told = found(world(lambda right, luck: (right, luck.random())))

    assert (pair.small, pair.second, pair.prompts, pair.tasks) == (SMALL.name, LARGE.name, 120, 3)
    assert pair.right == pair.agree
    agreement, luck = told["agreement"], told["mean log-probability"]
    assert agreement.overall is not None
    assert agreement.within is not None
    assert luck.within is not None
    assert (agreement.overall.value, agreement.within.value) == (1, 1)
    assert luck.within.interval[0] < 0.5 < luck.within.interval[1]


def test_what_log_probability_adds_is_shown_with_its_interval() -> None:
    """Agreement is right three times of four here, and log-probabilities tell apart what it does not."""
    rows = world(lambda right, luck: (right == (luck.random() < 0.75), luck.gauss(float(right), 0.7)))
    _, told = found(rows)

    added = told["both, over agreement"].within
    assert added is not None
    assert added.interval[0] > 0
    alone, both = told["agreement"].within, told["both"].within
    assert alone is not None
    assert both is not None
    assert added.value == pytest.approx(both.value - alone.value)


def test_only_prompts_on_which_both_said_something_count() -> None:
    rows = world(lambda right, luck: (right, -1.0))
    silent = [replace(o, said="") if o.build == LARGE.build and o.prompt_id < "p5" else o for o in rows]
    pair, _ = found(silent)

    assert pair.prompts == sum(o.prompt_id >= "p5" for o in rows if o.build == LARGE.build)
    nothing, told = found([replace(o, said="") for o in rows])
    assert (nothing.prompts, told) == (0, {})


def test_where_all_answers_are_right_there_is_nothing_to_rank() -> None:
    rows = [replace(o, correct=True) for o in world(lambda right, luck: (right, luck.random()))]
    pair, told = found(rows)

    assert pair.prompts == 120
    assert all(one.overall is None and one.within is None for one in told.values())


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.9])
    right = np.array([False, True, False, True, False])

    pairs = [
        (s, w) for s, r in zip(scores, right, strict=True) if r for w, q in zip(scores, right, strict=True) if not q
    ]
    assert area(scores, right) == sum((s > w) + (s == w) / 2 for s, w in pairs) / len(pairs)
    assert np.isnan(area(scores, np.ones(5, dtype=bool)))


def test_within_tasks_what_tells_tasks_apart_is_worth_nothing() -> None:
    task = np.array([0, 0, 1, 1])
    right = np.array([False, True, True, True])
    scores = np.array([0.0, 0.0, 1.0, 1.0])

    assert area(scores, right) > 0.8
    assert area_within(scores, right, task) == 0.5
