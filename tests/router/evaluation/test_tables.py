"""A table is read as it is, or refused with the file, the fault and the remedy."""

from pathlib import Path

import numpy as np
import pytest

from router.evaluation.tables import TableError, read_folder, read_table
from tests.router.evaluation.tables import rows_of, write_table

MODELS = ("another-7b", "another-3b")


def test_a_table_is_read_by_prompt_and_model(tmp_path: Path) -> None:
    rows = rows_of("t", MODELS, 3)
    table = read_table(write_table(tmp_path, "t", rows[:-1]))
    assert table.scores.shape == (3, 2)
    first = rows[0]
    row, column = table.prompt_ids.index(first["prompt_id"]), table.column(first["model"])
    assert table.scores[row, column] == first["score"]
    assert table.answers[row, column] == first["answer"]
    assert table.templates[row] == first["benchmark"]
    assert np.isnan(table.cost_usd).all()
    missing = rows[-1]
    assert np.isnan(table.scores[table.prompt_ids.index(missing["prompt_id"]), table.column(missing["model"])])


@pytest.mark.parametrize("column", ["prompt_id", "benchmark", "model", "score", "params_b"])
def test_a_missing_column_is_named_beside_those_a_table_has(tmp_path: Path, column: str) -> None:
    rows = [{key: of for key, of in row.items() if key != column} for row in rows_of("t", MODELS, 3)]
    with pytest.raises(TableError, match=rf"no column '{column}'.*an outcome table has prompt_id"):
        read_table(write_table(tmp_path, "t", rows))


@pytest.mark.parametrize("score", [None, -0.1, 1.5, float("nan")])
def test_a_score_that_is_none_is_refused(tmp_path: Path, score: float | None) -> None:
    rows = rows_of("t", MODELS, 3)
    rows[2]["score"] = score
    with pytest.raises(TableError, match="not between 0 and 1"):
        read_table(write_table(tmp_path, "t", rows))


def test_a_score_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    rows = [row | {"score": "good"} for row in rows_of("t", MODELS, 3)]
    with pytest.raises(TableError, match="'score' is not of numbers"):
        read_table(write_table(tmp_path, "t", rows))


def test_a_prompt_without_an_id_is_refused(tmp_path: Path) -> None:
    rows = rows_of("t", MODELS, 3)
    rows[1]["prompt_id"] = None
    with pytest.raises(TableError, match="prompt_id is empty"):
        read_table(write_table(tmp_path, "t", rows))


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"not a table")
    with pytest.raises(TableError, match=r"broken\.parquet cannot be read as parquet"):
        read_folder(tmp_path)


def test_an_empty_folder_and_none_at_all_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"holds no \*\.parquet"):
        read_folder(tmp_path)
    with pytest.raises(TableError, match="is not a folder"):
        read_folder(tmp_path / "nothing")


def test_a_model_without_rows_is_named_beside_those_there_are(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path, "t", rows_of("t", MODELS, 3)))
    with pytest.raises(TableError, match=r"no rows of the model 'gpt-5'.*another-3b, another-7b"):
        table.column("gpt-5")
