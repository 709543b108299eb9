"""The committed tables: what is written is read back, what is wrong is named, and no prompt's text is in them."""

import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import load_catalog
from router.features import FEATURES
from router.looks import Looks
from router.outcomes import COLUMNS, Outcome, read_looks, read_outcomes, write_looks, write_outcomes
from router.words import PLACES
from tests.router.world import LARGE, SMALL, ZEROS, outcome

TABLE_NAME_CHARACTERS = 64  # longer than any id, task or model here, far shorter than a prompt

words = st.text(string.ascii_letters + string.digits + ' .,;:_-/"' + "éΩ", max_size=12)
tokens = st.integers(min_value=0, max_value=10**6)
fractions = st.none() | st.floats(allow_nan=False, allow_infinity=False)
outcomes = st.builds(
    Outcome,
    prompt_id=words,
    task=words,
    template=words,
    model=words,
    build=words,
    correct=st.booleans(),
    finish_reason=words,
    prompt_tokens=tokens,
    completion_tokens=tokens,
    mean_logprob=fractions,
    min_logprob=fractions,
    mean_margin=fractions,
    first_mean_logprob=fractions,
    first_min_logprob=fractions,
    first_mean_margin=fractions,
    said=words,
    seconds=fractions,
    chance=fractions,
)
ROW = "p,bbh_x,template,small,build,1,stop,45,2,-0.3,-0.5,1.5,-0.2,-0.4,1.2,1f2e3d4c,0.25,0.4"


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """A table with these lines under its header."""

    def written(*rows: str, header: str = ",".join(COLUMNS)) -> Path:
        path = tmp_path / "table.csv"
        path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
        return path

    return written


@given(rows=st.lists(outcomes, max_size=8))
def test_outcomes_are_read_back_as_they_were_written(rows: list[Outcome]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "new folder" / "outcomes.csv"
        write_outcomes(path, rows)

        assert list(read_outcomes(path)) == sorted(rows, key=lambda o: (o.model, o.task, o.prompt_id))


def test_a_new_run_writes_the_same_bytes(tmp_path: Path) -> None:
    rows = [outcome(p, model, True, task=task) for p in "cab" for model in (LARGE, SMALL) for task in ("y", "x")]
    write_outcomes(tmp_path / "one.csv", rows)
    write_outcomes(tmp_path / "other.csv", reversed(rows))

    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()


def test_an_empty_answer_has_no_log_probabilities_rather_than_0(tmp_path: Path) -> None:
    silent = replace(outcome("p", SMALL, False), mean_logprob=None, min_logprob=None, mean_margin=None)
    write_outcomes(tmp_path / "outcomes.csv", [silent, outcome("q", SMALL, False)])

    assert [o.mean_logprob for o in read_outcomes(tmp_path / "outcomes.csv")] == [None, -0.25]


@pytest.mark.parametrize(
    "wrong",
    [
        ROW.replace(",45,", ",many,"),
        ROW.replace("-0.3", "low"),
        ROW.replace(",1,stop", ",True,stop"),
        ROW.replace(",1,stop", ",2,stop"),
        ROW.replace(",1,stop", ",,stop"),
        ROW.rpartition(",")[0],  # cut
        "p,bbh_x",
        "p",
        "",
        ROW + ",more",
    ],
)
def test_names_the_line_that_is_wrong(table: Callable[..., Path], wrong: str) -> None:
    with pytest.raises(ValueError, match=r"table\.csv, line 4: "):
        list(read_outcomes(table(ROW, ROW, wrong, ROW)))


@pytest.mark.parametrize("header", ["", "prompt_id", ",".join(COLUMNS[:-1]), ",".join(reversed(COLUMNS)), ROW])
def test_refuses_a_table_of_other_columns(table: Callable[..., Path], header: str) -> None:
    with pytest.raises(ValueError, match="pointsman ladder publish"):
        list(read_outcomes(table(ROW, header=header)))


def test_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()

    with pytest.raises(ValueError, match="pointsman ladder publish"):
        list(read_outcomes(tmp_path / "empty.csv"))
    with pytest.raises(ValueError, match="pointsman ladder publish"):
        read_looks(tmp_path / "empty.csv")


def test_a_missing_table_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_outcomes(tmp_path / "none.csv"))
    with pytest.raises(FileNotFoundError):
        read_looks(tmp_path / "none.csv")


@given(
    rows=st.dictionaries(
        words,
        st.builds(
            Looks,
            st.tuples(*[st.floats(min_value=0, max_value=1e6, allow_subnormal=False)] * len(FEATURES)),
            st.sets(st.integers(0, PLACES - 1), max_size=9).map(lambda found: tuple(sorted(found))),
        ),
        max_size=5,
    )
)
def test_looks_are_read_back_features_to_five_digits(rows: dict[str, Looks]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "looks.csv"
        write_looks(path, rows)
        read = read_looks(path)

    assert set(read) == set(rows)
    for prompt_id, of in rows.items():
        assert read[prompt_id].features == pytest.approx(of.features, rel=5.1e-5, abs=0)
        assert read[prompt_id].words == of.words


def test_looks_are_written_in_the_order_of_their_ids(tmp_path: Path) -> None:
    write_looks(tmp_path / "looks.csv", {"b": Looks(ZEROS), "a": Looks(ZEROS)})

    assert list(read_looks(tmp_path / "looks.csv")) == ["a", "b"]


@pytest.mark.parametrize("names", [list(FEATURES)[:-1], list(FEATURES)[::-1], [*FEATURES, "more"], []])
def test_refuses_looks_of_other_features(table: Callable[..., Path], names: list[str]) -> None:
    with pytest.raises(ValueError, match="pointsman ladder publish"):
        read_looks(table(header=",".join(["prompt_id", *names, "words"])))


@pytest.mark.parametrize("row", ["p", "p" + ",0" * len(FEATURES), "p" + ",0" * (len(FEATURES) + 2)])
def test_names_the_line_of_looks_that_is_cut(table: Callable[..., Path], row: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        read_looks(table(row, header=",".join(["prompt_id", *FEATURES, "words"])))


def test_every_shipped_outcome_has_looks_and_is_counted_once() -> None:
    rows, looks = list(read_outcomes()), read_looks()

    assert rows
    assert {o.prompt_id for o in rows} <= set(looks)
    assert len({(o.prompt_id, o.build) for o in rows}) == len(rows)


def test_every_shipped_outcome_is_of_a_shipped_build() -> None:
    assert {(o.model, o.build) for o in read_outcomes()} <= {(m.name, m.build) for m in load_catalog()}


def test_no_text_of_a_prompt_or_an_answer_is_shipped() -> None:
    assert not {"prompt", "text", "answer", "expected", "messages"} & {*COLUMNS, *FEATURES}
    for o in read_outcomes():
        names = (o.prompt_id, o.task, o.template, o.model, o.build, o.finish_reason)
        assert all(len(name) <= TABLE_NAME_CHARACTERS and not set(name) & set(" \n") for name in names)
