"""On tables in which models differ by how much they can, a probed model comes close to a fully labelled one."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from router.evaluation.probed import ProbeRow, evaluate_probes
from router.evaluation.tables import OutcomeTable

PROMPTS = 240
MODELS = tuple(f"model-{n}" for n in range(5))


def table(name: str, models: tuple[str, ...] = MODELS, seed: int = 1) -> OutcomeTable:
    """Long prompts are hard for all; each model is a little better than the one before it."""
    luck = random.Random(seed)
    lengths = [luck.random() for _ in range(PROMPTS)]
    shape = (PROMPTS, len(models))
    scores = np.array(
        [[float(luck.random() < 0.25 + 0.12 * MODELS.index(m) + 0.4 * (0.5 - of)) for m in models] for of in lengths]
    )
    unknown: NDArray[np.float64] = np.full(shape, np.nan)
    return OutcomeTable(
        name=name,
        prompt_ids=tuple(f"p{n}" for n in range(PROMPTS)),
        prompts=tuple("word " * (2 + int(60 * of)) for of in lengths),
        templates=tuple(f"task {n % 2}" for n in range(PROMPTS)),
        models=models,
        params_b=np.full(len(models), np.nan),
        scores=scores,
        prompt_tokens=unknown,
        completion_tokens=unknown,
        cost_usd=unknown,
        answers=np.full(shape, None, dtype=object),
    )


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], ProbeRow]:
    tables = {"alike_one": table("alike_one"), "alike_two": table("alike_two", seed=2), "few": table("few", MODELS[:2])}
    return {(row.set, row.profile): row for row in evaluate_probes(tables, (20, 60))}


def test_tables_whose_names_begin_alike_are_one_set_and_too_few_models_make_none(
    rows: dict[tuple[str, str], ProbeRow],
) -> None:
    profiles = ("fully labelled", "probed, 20 prompts", "probed, 60 prompts", "mean of the known")
    assert list(rows) == [("alike", profile) for profile in profiles]
    assert {row.models for row in rows.values()} == {len(MODELS)}


def test_a_probe_is_closer_to_all_labels_than_the_mean_of_the_known_is(rows: dict[tuple[str, str], ProbeRow]) -> None:
    full, probed = rows["alike", "fully labelled"], rows["alike", "probed, 60 prompts"]
    mean = rows["alike", "mean of the known"]

    assert (full.auc_difference, full.brier_difference) == (0, 0)
    assert full.brier <= probed.brier + 0.01 < mean.brier
    assert probed.brier_difference == pytest.approx(probed.brier - full.brier)
    assert probed.brier_interval[0] <= probed.brier_difference <= probed.brier_interval[1]


def test_so_many_known_models_as_asked_for_make_the_mean() -> None:
    one, all_of_them = (evaluate_probes({"t": table("t")}, (20,), known) for known in (1, None))

    assert one[-1].brier > all_of_them[-1].brier
    assert one[0] == all_of_them[0]
