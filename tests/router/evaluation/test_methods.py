"""Each method finds what is there to be found, and no method sees what it is judged by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router.evaluation.estimates import cross_validated, fitted_elsewhere, ranked_by_fold, time_decisions
from router.evaluation.estimator import Estimator
from router.evaluation.methods import METHODS
from router.evaluation.methods.agreement import Agreement, same_answer
from router.evaluation.methods.answer_looks import LOOKS, answer_looks
from router.evaluation.methods.before import PointsmanBefore
from router.evaluation.methods.coin import Coin
from router.evaluation.methods.complexity import ComplexityRules
from router.evaluation.methods.ridge import STRENGTHS, fit_ridge
from router.evaluation.methods.template import shrunk_means
from router.evaluation.metrics import figures
from router.evaluation.samples import Answers, Sample, Stage, texts
from router.evaluation.sets import LLAMA_8B, LLAMA_70B, Set, sample
from router.evaluation.tables import read_table
from router.evaluation.views import view
from router.looks import looks_of
from tests.router.evaluation.tables import HELPER, WordEmbedder, rows_of, write_table

FITTED = [method for method in METHODS if not isinstance(method, ComplexityRules)]  # its import takes three seconds
ONE = Set("one", ("t",), LLAMA_8B, LLAMA_70B)


def _names(method: Estimator) -> str:
    return f"{method.name}-{method.stage}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """400 prompts: hard ones are long, and the small models seldom agree on them."""
    folder: Path = tmp_path_factory.mktemp("tables")
    table = read_table(write_table(folder, "t", rows_of("t", (LLAMA_8B, HELPER, LLAMA_70B), 400)))
    return sample(ONE, ("t",), {"t": table}, {"t": view(table.prompts, WordEmbedder())})


@pytest.mark.parametrize("method", FITTED, ids=_names)
def test_no_method_sees_the_scores_it_is_judged_by(world: Sample, method: Estimator) -> None:
    """Whatever the judged prompts' outcomes are, the ranking is the same."""
    fit, judged = world.take(np.arange(300)), world.take(np.arange(300, 400))
    shuffled = np.random.default_rng(1).permutation(100)
    permuted = replace(judged, outcomes=judged.outcomes.take(shuffled))
    first, again = (fitted_elsewhere(method, fit, of)[0].gain for of in (judged, permuted))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("method", FITTED, ids=_names)
def test_a_prompt_is_estimated_alike_whatever_stands_beside_it(world: Sample, method: Estimator) -> None:
    """A request comes alone."""
    fitted = method.fit(world.prompts.take(np.arange(300)), world.outcomes.take(np.arange(300)))
    together = fitted.estimate(world.prompts.take(np.arange(300, 310))).gain
    alone = [fitted.estimate(world.prompts.take(np.array([row]))).gain[0] for row in range(300, 310)]
    assert together == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize("method", FITTED, ids=_names)
def test_fitting_twice_gives_the_same(world: Sample, method: Estimator) -> None:
    fit, judged = world.take(np.arange(200)), world.take(np.arange(200, 400))
    first, again = (fitted_elsewhere(method, fit, judged)[0].gain for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("method", [m for m in FITTED if m.name in ("pointsman", "agreement", "length")], ids=_names)
def test_what_is_there_to_be_found_is_found(world: Sample, method: Estimator) -> None:
    found, _ = cross_validated(method, world, 4)
    assert figures(found.gain, world.outcomes.small, world.outcomes.large).apgr > 0.6


@pytest.mark.parametrize("method", [m for m in FITTED if m.name == "pointsman"], ids=_names)
def test_chances_lie_between_none_and_all(world: Sample, method: Estimator) -> None:
    found, _ = cross_validated(method, world, 4)
    assert found.chances is not None
    assert found.chances.shape == (400, 2)
    assert np.all((found.chances >= 0) & (found.chances <= 1))
    assert np.abs(found.chances.mean(axis=0) - [world.outcomes.small.mean(), world.outcomes.large.mean()]).max() < 0.1


def test_a_method_that_looks_after_calls_one_more_small_model(world: Sample) -> None:
    found, _ = cross_validated(Agreement(), world, 4)
    assert found.helpers is not None
    assert set(found.helpers) == {HELPER}


@pytest.mark.parametrize("method", FITTED, ids=_names)
def test_outcomes_that_never_differ_are_no_reason_to_fail(world: Sample, method: Estimator) -> None:
    outcomes = replace(
        world.outcomes, small=np.ones(400), large=np.ones(400), others=np.ones_like(world.outcomes.others)
    )
    found = method.fit(world.prompts, outcomes).estimate(world.prompts)
    assert np.isfinite(found.gain).all()


@pytest.mark.parametrize("method", FITTED, ids=_names)
def test_a_template_never_seen_is_no_reason_to_fail(world: Sample, method: Estimator) -> None:
    new = replace(world.prompts, templates=texts(["new"] * 400), tables=texts(["new"] * 400))
    assert np.isfinite(method.fit(world.prompts, world.outcomes).estimate(new).gain).all()


def test_decisions_are_timed_one_at_a_time(world: Sample) -> None:
    took = time_decisions(Coin(stage=Stage.BEFORE), world.prompts, WordEmbedder())
    assert 0 < took.median <= took.p99


def test_ranks_by_fold_know_nothing_of_differences_between_folds() -> None:
    ids = texts([f"p{n}" for n in range(200)])
    constant_by_model = np.repeat([0.1, 0.2], 100)
    rank = ranked_by_fold(np.zeros(200), ids, 5)
    assert np.all(rank == 0.5)
    assert ranked_by_fold(constant_by_model, ids, 5).shape == (200,)


def test_leaving_each_row_out_in_closed_form_is_leaving_it_out() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 1))
    _, left_out = fit_ridge(x, y)
    strength = _strength_of(x, y)
    for row in (0, 17):
        others = np.arange(30) != row
        xc, yc = x[others] - x.mean(axis=0), y[others] - y.mean(axis=0)  # the centre stays that of all rows
        ones = np.hstack([xc, np.ones((29, 1))])
        penalty = np.diag([strength] * 4 + [0.0])
        weights = np.linalg.solve(ones.T @ ones + penalty, ones.T @ yc)
        expected = np.append(x[row] - x.mean(axis=0), 1) @ weights + y.mean(axis=0)
        assert left_out[row, 0] == pytest.approx(expected[0], abs=1e-9)


def _strength_of(
    x: np.ndarray[tuple[int, ...], np.dtype[np.float64]], y: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> float:
    """The penalty that was chosen, from the weights that came of it."""
    model, _ = fit_ridge(x, y)
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    distances = [
        np.abs(np.linalg.solve(xc.T @ xc + s * np.eye(x.shape[1]), xc.T @ yc) - model.weights).max() for s in STRENGTHS
    ]
    return float(STRENGTHS[int(np.argmin(distances))])


def test_small_groups_are_drawn_to_the_mean_of_all() -> None:
    rng = np.random.default_rng(3)
    groups = texts(["big"] * 300 + ["small"] * 3)
    values = np.concatenate([(rng.random(300) < 0.2).astype(float), np.ones(3)])
    means = shrunk_means(groups, values)
    assert means.groups["big"] == pytest.approx(values[:300].mean(), abs=0.01)
    assert means.overall < means.groups["small"] < 1
    assert means.of(texts(["never seen"]))[0] == means.overall


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1,000", "1000.0", True),
        ("$5", "5", True),
        ("50%", "50", True),
        ("'ab c'", '"abc"', True),
        ("A", "a", True),
        ("A", "B", False),
        ("", "", False),
        (None, None, False),
        ("5", None, False),
        ("[1, 2]", "[1,2]", True),
        ("[1, 2]", "[2, 1]", False),
    ],
)
def test_answers_are_compared_by_what_they_say(one: str | None, other: str | None, same: bool) -> None:
    assert same_answer(one, other) is same


def test_the_looks_of_an_answer_are_read_off_its_options() -> None:
    prompt = "What is 2 + 3?\nA. 5\nB. 60 or more\nC. 7\nD. none of these"
    answers = Answers(texts(["A", "D", "Z", None, "12"]), np.array([9.0, 9, 9, np.nan, 9]))
    rows = answer_looks(answers, texts([prompt] * 5))
    looks = [dict(zip(LOOKS, row, strict=False)) for row in rows]
    assert [look["there"] for look in looks] == [1, 1, 1, 0, 1]
    assert [look["letter"] for look in looks] == [1, 1, 0, 0, 0]
    assert looks[0]["number_rank"] == -0.5
    assert looks[0]["shortest"] == looks[1]["longest"] == looks[1]["catch_all"] == 1
    assert looks[2]["no_such_option"] == 1
    assert looks[4]["number"] == 1
    assert np.isfinite(rows).all()


@pytest.mark.parametrize(
    "prompt", ["", "\n" * 5000, "A. 1\n" * 2000, "$1.00 " * 2000, "9" * 5000, "\ud800 \u2028 {[(" * 300]
)
def test_odd_prompts_are_looked_at_too(prompt: str) -> None:
    assert np.isfinite(looks_of(prompt).features).all()
    assert np.isfinite(answer_looks(Answers(texts(["A"]), np.array([1.0])), texts([prompt]))).all()


@pytest.mark.parametrize("answer", ["9" * 400, "-" * 1000, "1e400", "nan", "inf", "[" * 500, "\u0661"])
def test_odd_answers_are_looked_at_too(answer: str) -> None:
    assert np.isfinite(answer_looks(Answers(texts([answer]), np.array([1.0])), texts(["?"]))).all()


def test_many_prompts_and_models_are_learned_from_in_two_levels(tmp_path: Path) -> None:
    """The gain is a hump in how hard a prompt is, which a straight line cannot see."""
    others = [f"other-{number}" for number in range(6)]
    table = read_table(write_table(tmp_path, "t", rows_of("t", (LLAMA_8B, LLAMA_70B, *others), 1300)))
    of = sample(ONE, ("t",), {"t": table}, {"t": view(table.prompts, WordEmbedder())})
    fit, judged = of.take(np.arange(1000)), of.take(np.arange(1000, 1300))
    fitted = PointsmanBefore().fit(fit.prompts, fit.outcomes)
    assert fitted.level2 is not None
    gain = fitted.estimate(judged.prompts).gain
    assert figures(gain, judged.outcomes.small, judged.outcomes.large).apgr > 0.6
