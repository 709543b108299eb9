"""The whole evaluation, on small tables: every set, stage and method, in JSON, as a picture, on the terminal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.cli.evaluate import EvaluationFailed
from gateway.cli.evaluate import evaluate as command
from router.evaluation import evaluate as module
from router.evaluation.evaluate import Options, Results, evaluate
from router.evaluation.plot import draw
from router.evaluation.samples import Stage
from router.evaluation.sets import SETS
from router.evaluation.tables import TableError
from router.evaluation.written import document, write
from tests.router.evaluation.tables import WordEmbedder, priced_rows, rows_of, write_all, write_table

FAST = Options(folds=3, resamples=100, splits=20)
WITHOUT_ANSWERS = ("mmlu", "gsm8k")


def _quiet(doing: str, done: int, total: int) -> None:
    assert 0 <= done <= total


def _judge(train: Path, test: Path | None, options: Options = FAST) -> Results:
    return evaluate(train, test, options, _quiet, WordEmbedder())


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("outcomes"))


@pytest.fixture(scope="module")
def results(tables: Path) -> Results:
    return _judge(tables, None)


@pytest.fixture(scope="module")
def written(results: Results) -> dict[str, Any]:
    return document(results)


def test_every_set_stage_and_method_has_a_row(written: dict[str, Any]) -> None:
    found = {(row["set"], row["stage"], row["method"]) for row in written["rows"]}
    before = {
        "pointsman", "served", "always-small", "always-large", "random", "length", "template", "knn", "routellm-sw",
        "routellm-mf", "litellm-complexity", "oracle",
    }  # fmt: skip
    after = {"pointsman", "agreement", "random", "oracle", "always-small", "always-large"}
    for one in SETS:
        assert {method for name, stage, method in found if (name, stage) == (one.name, "before")} == before
        wanted = set() if one.name in WITHOUT_ANSWERS else after
        assert {method for name, stage, method in found if (name, stage) == (one.name, "after")} == wanted
    assert ("priced", "before", "pointsman") in found


def test_a_row_says_what_it_has_to(written: dict[str, Any]) -> None:
    row = next(r for r in written["rows"] if (r["set"], r["stage"], r["method"]) == ("mix4", "after", "pointsman"))
    for key in (
        "apgr",
        "cpt50",
        "cpt80",
        "cpt95",
        "quality_at_half_cost",
        "cost_at_target",
        "ms_p50",
        "ms_p99",
        "ece_small",
    ):
        assert isinstance(row[key], float), key
    assert row["ci95"][0] <= row["apgr"] <= row["ci95"][1]
    assert row["prompts"] == 240
    assert "another-7b" in row["helpers"]
    assert row["over"]["method"] == "agreement"


def test_a_cascade_pays_for_its_small_calls(written: dict[str, Any]) -> None:
    """An 8B and a 7B model are called before the 70B one: a fifth of its cost and more, where the tokens are alike."""
    row = next(r for r in written["rows"] if (r["set"], r["stage"], r["method"]) == ("mmlu-pro", "after", "pointsman"))
    assert row["small_calls_cost"] == pytest.approx(15 / 70, abs=0.01)
    assert row["quality_at_half_cost"] <= row["quality_large"] + 0.2


def test_an_unknown_size_is_an_unknown_cost(written: dict[str, Any]) -> None:
    row = next(r for r in written["rows"] if (r["set"], r["method"]) == ("mix3", "pointsman"))
    assert row["cost_at_target"] is None
    assert row["quality_at_half_cost"] is None
    assert row["quality_at_half_calls"] is not None


def test_the_promised_sets_have_targets(written: dict[str, Any]) -> None:
    found = {(t["set"], t["stage"], t["method"], t["promise"]) for t in written["targets"]}
    for name in ("mmlu-pro", "mix4", "gsm8k-2b"):
        for stage in ("before", "after"):
            assert {promise for s, g, m, promise in found if (s, g, m) == (name, stage, "pointsman")} == {
                "tuned", "mean", "next",
            }  # fmt: skip
    for target in written["targets"]:
        assert 0 <= target["hit_rate"] <= 1
        assert target["splits"] == 20


def test_chances_come_with_their_reliability(written: dict[str, Any]) -> None:
    one = next(c for c in written["calibration"] if (c["set"], c["stage"], c["model"]) == ("mix4", "before", "small"))
    assert sum(b["prompts"] for b in one["bins"]) == 240
    assert 0 <= one["ece"] <= 1


def test_recorded_dollars_of_many_models_give_an_aiq(written: dict[str, Any]) -> None:
    aiq = {one["method"]: one["aiq"] for one in written["aiq"] if one["set"] == "priced"}
    assert set(aiq) == {"pointsman", "template", "knn", "oracle", "single-models"}
    assert aiq["oracle"] == max(aiq.values())
    row = next(r for r in written["rows"] if (r["set"], r["method"]) == ("priced", "pointsman"))
    assert row["aiq"] == aiq["pointsman"]
    assert row["cost_unit"] == "USD"


def test_nothing_that_is_not_a_number_is_written(results: Results, tmp_path: Path) -> None:
    write(tmp_path / "out.json", results)
    json.loads((tmp_path / "out.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_prompts_held_back_are_judged_and_never_fitted_on(tmp_path: Path, tables: Path) -> None:
    """Half as many are judged; and their scores turned round change every figure but no ranking."""
    held = tmp_path / "held"
    rows = rows_of("mmlu_pro_cot", ("Meta-Llama-3.1-8B-Instruct", "another-7b", "Meta-Llama-3.1-70B-Instruct"), 30)
    write_table(held, "mmlu_pro_cot", rows)
    found = _judge(tables, held, Options(folds=3, resamples=100, splits=20, only=("mmlu-pro",)))
    assert {row.prompts for row in found.rows} == {30}
    assert {target.set for target in found.targets} == {"mmlu-pro"}
    turned = tmp_path / "turned"
    write_table(turned, "mmlu_pro_cot", [row | {"score": 1 - row["score"]} for row in rows])
    other = _judge(tables, turned, Options(folds=3, resamples=100, splits=20, only=("mmlu-pro",)))
    first, again = (of.curves["mmlu-pro", Stage.BEFORE, "pointsman"] for of in (found, other))
    assert np.array_equal(first.share, again.share)
    assert not np.array_equal(first.value, again.value)


def test_sets_without_their_tables_are_not_made(tmp_path: Path) -> None:
    write_table(tmp_path / "few", "priced", priced_rows(40))
    found = _judge(tmp_path / "few", None)
    assert {row.set for row in found.rows} == {"priced"}


def test_a_set_that_cannot_be_made_is_refused_by_name(tables: Path) -> None:
    with pytest.raises(TableError, match="no set 'mmlu-max' can be made of these tables; there are: mmlu, gsm8k"):
        _judge(tables, None, Options(only=("mmlu-max",)))


def test_too_few_prompts_are_said_to_be_too_few(tmp_path: Path) -> None:
    write_table(tmp_path / "few", "priced", priced_rows(10))
    found = _judge(tmp_path / "few", None)
    assert not found.rows
    assert "priced is left out: under 20 prompts" in found.notes[-1]


def test_a_model_that_a_known_set_needs_is_missed_by_name(tmp_path: Path) -> None:
    write_table(tmp_path / "t", "mmlu_pro_cot", rows_of("mmlu_pro_cot", ("another-7b", "another-3b"), 30))
    with pytest.raises(TableError, match="no rows of the model 'Meta-Llama-3"):
        _judge(tmp_path / "t", None)


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("html", b"<!doctype html>")])
def test_the_plot_stands_alone(results: Results, tmp_path: Path, ending: str, begins: bytes) -> None:
    path = tmp_path / f"plot.{ending}"
    draw(path, results)
    content = path.read_bytes()
    assert content.startswith(begins)
    assert b"<script" not in content
    assert b"<img" not in content


def test_a_plot_of_another_kind_is_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"must end in \.png or \.html"):
        draw(tmp_path / "plot.pdf", results)


def test_the_command_writes_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "load_embedder", WordEmbedder)
    monkeypatch.setenv("COLUMNS", "200")
    write_table(tmp_path / "t", "priced", priced_rows(40))
    command(tmp_path / "t", json=tmp_path / "o.json", plot=tmp_path / "o.html", folds=3, resamples=100, splits=20)
    assert json.loads((tmp_path / "o.json").read_text())["rows"]
    assert (tmp_path / "o.html").exists()
    shown = capsys.readouterr().out
    for word in ("APGR", "pointsman", "AIQ", "ECE"):
        assert word in shown


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match="there is no folder"):
        command(tmp_path, json=tmp_path / "nowhere" / "o.json")


def test_a_folder_without_tables_is_an_operators_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_embedder", WordEmbedder)
    with pytest.raises(EvaluationFailed, match="is not a folder"):
        command(tmp_path / "nothing")
