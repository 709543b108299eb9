"""Fitting finds what is there to be found, on the prompts that it may look at."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes no types

from models.catalog import Model
from router.difficulty import SolveModel, load_difficulty
from router.features import FEATURES
from router.fit import Fitted, fit, write_difficulty
from router.ladder import Split, split_of
from router.looks import Looks
from router.outcomes import Outcome
from tests.router.world import LARGE, ONES, SMALL, ZEROS, outcome

PROMPTS = 400
TASKS = ("sums", "words")
SIGNAL = list(FEATURES).index("log_words")
CONSTANT = list(FEATURES).index("fixed_short_answer")  # as where every prompt has the same instruction
dice = random.Random(20261123)


def _looks() -> Looks:
    values = [dice.random() for _ in FEATURES]
    values[SIGNAL], values[CONSTANT] = dice.gauss(3, 2), 1.0
    return Looks(tuple(values))


LOOKS = {f"p{n}": _looks() for n in range(PROMPTS)}


def _answered(of: Model, right: Callable[[float], bool]) -> list[Outcome]:
    """*of* answers every prompt, and is right depending on the planted feature."""
    return [
        outcome(p, of, right(of_prompt.features[SIGNAL]), task=TASKS[place % len(TASKS)])
        for place, (p, of_prompt) in enumerate(LOOKS.items())
    ]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On matrices this small the threads of the linear algebra wait for each other: eight times as long."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="module")
def rows() -> list[Outcome]:
    """Small fails on long prompts, with some luck either way; large by luck alone."""
    luck = random.Random(1)
    small = _answered(SMALL, lambda value: luck.gauss(value, 1) < 3)
    return small + _answered(LARGE, lambda value: luck.random() < 0.8)


@pytest.fixture(scope="module")
def fitted(rows: list[Outcome]) -> dict[str, Fitted]:
    return {one.model: one for one in fit(rows, LOOKS)}


def test_finds_a_planted_signal(fitted: dict[str, Fitted]) -> None:
    small = fitted[SMALL.name]

    assert small.held_out_auc > 0.8
    assert small.unseen_task_auc > 0.8
    weights = [abs(weight) for weight in small.solve_model.weights]
    assert max(weights) == weights[SIGNAL]
    assert small.solve_model.weights[SIGNAL] < 0


def test_finds_a_planted_word_and_a_planted_template() -> None:
    hard_word, easy_template = 7, "easy"
    seen_of = {p: Looks(ZEROS, (hard_word, 9) if place % 3 == 0 else (9,)) for place, p in enumerate(LOOKS)}
    rows = [
        outcome(
            p,
            SMALL,
            place % 6 == 0 or place % 3 > 0,
            template=easy_template if place % 6 == 0 else "hard",
            task=TASKS[place // 6 % 2],
        )
        for place, p in enumerate(LOOKS)
    ]
    (small,) = fit(rows, seen_of)
    model = small.solve_model

    assert model.words[hard_word] < model.words[9]
    assert model.offsets[easy_template] > model.offsets["hard"]
    chances = [model.chance(seen_of[o.prompt_id], o.template) for o in rows if o.template == "hard" and not o.correct]
    assert max(chances) < 0.5 < model.chance(Looks(ZEROS, (9,)), "hard")


def test_finds_nothing_where_there_is_only_luck(fitted: dict[str, Fitted]) -> None:
    large = fitted[LARGE.name]

    assert 0.3 < large.held_out_auc < 0.7
    held_out = [large.chances[p] for p in LOOKS if split_of(p) is Split.CALIBRATE]
    assert sum(held_out) / len(held_out) == pytest.approx(0.8, abs=0.1)


def test_an_unseen_task_is_ranked_by_what_the_others_teach() -> None:
    """Here that is the opposite of the truth: long sums fail, and so do short words."""
    luck = random.Random(3)
    short = _answered(SMALL, lambda value: luck.gauss(value, 1) < 3)
    opposite = [replace(o, correct=not o.correct) if o.task == "words" else o for o in short]
    (small,) = fit(opposite, LOOKS)

    assert small.unseen_task_auc < 0.2


def test_a_feature_that_never_varies_says_nothing(fitted: dict[str, Fitted]) -> None:
    for one in fitted.values():
        assert one.solve_model.weights[CONSTANT] == 0
        assert one.solve_model.scales[CONSTANT] > 0


def test_chances_are_about_the_share_that_is_right(rows: list[Outcome], fitted: dict[str, Fitted]) -> None:
    tests = [o for o in rows if o.model == SMALL.name and split_of(o.prompt_id) is Split.TEST]
    expected = sum(fitted[SMALL.name].solve_model.chance(LOOKS[o.prompt_id], o.template) for o in tests) / len(tests)

    assert expected == pytest.approx(sum(o.correct for o in tests) / len(tests), abs=0.1)


def test_there_is_one_solve_model_for_each_build(rows: list[Outcome], fitted: dict[str, Fitted]) -> None:
    fit_prompts = sum(split_of(p) is Split.FIT for p in LOOKS)

    assert {one.build for one in fitted.values()} == {SMALL.build, LARGE.build}
    assert {one.fit_prompts for one in fitted.values()} == {fit_prompts}


def test_test_prompts_change_nothing(rows: list[Outcome], fitted: dict[str, Fitted]) -> None:
    small = [o for o in rows if o.model == SMALL.name]
    flipped = [replace(o, correct=not o.correct) if split_of(o.prompt_id) is Split.TEST else o for o in small]
    told: list[str] = []

    assert fit(flipped, LOOKS, told.append) == [fitted[SMALL.name]]
    assert told == [SMALL.name]


def test_calibration_prompts_do_not_change_the_solve_model(rows: list[Outcome], fitted: dict[str, Fitted]) -> None:
    small = [o for o in rows if o.model == SMALL.name]
    flipped = [replace(o, correct=not o.correct) if split_of(o.prompt_id) is Split.CALIBRATE else o for o in small]
    (again,) = fit(flipped, LOOKS)

    assert again.solve_model == fitted[SMALL.name].solve_model
    assert again.held_out_auc == pytest.approx(1 - fitted[SMALL.name].held_out_auc)


def test_what_was_fitted_is_read_back(tmp_path: Path, fitted: dict[str, Fitted]) -> None:
    write_difficulty(tmp_path / "difficulty.json", fitted.values())
    difficulty = load_difficulty(tmp_path / "difficulty.json")

    assert set(difficulty.models) == {SMALL.build, LARGE.build}
    for one in fitted.values():
        read = difficulty.models[one.build]
        for of_prompt in LOOKS.values():
            expected = one.solve_model.chance(of_prompt, "template")
            assert read.chance(of_prompt, "template") == pytest.approx(expected, abs=1e-3)


def test_a_small_scale_is_not_written_as_0(tmp_path: Path) -> None:
    """A feature that differs on few prompts has one; it is divided by."""
    rare = SolveModel(0.5, ZEROS, (1.23456789e-9,) * len(FEATURES), (2.5e-8, *ONES[1:]))
    write_difficulty(tmp_path / "difficulty.json", [Fitted("small", "build", rare, 1, 0.5, 0.5, {})])
    read = load_difficulty(tmp_path / "difficulty.json").models["build"]

    assert read.scales == rare.scales
    assert read.means[0] == pytest.approx(1.23456789e-9, rel=1e-5)
    assert read.chance(Looks(ZEROS)) == rare.chance(Looks(ZEROS))
