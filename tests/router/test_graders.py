"""How a template's answers are read is kept beside the tables."""

from pathlib import Path

import pytest

from router.graders import graders_of, read_graders, write_graders
from router.outcomes import read_outcomes


def test_a_template_with_one_grader_has_it_and_one_with_several_has_none() -> None:
    assert graders_of([("a", "exact"), ("a", "exact"), ("b", "number"), ("b", "exact")]) == {"a": "exact"}


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "graders.csv"
    write_graders(path, {"b": "one_of:yes,no", "a": "number"})
    assert read_graders(path) == {"a": "number", "b": "one_of:yes,no"}
    path.write_text("template,grade\na,guess\n")
    with pytest.raises(ValueError, match="guess"):
        read_graders(path)


def test_every_template_of_the_committed_tables_has_a_grader() -> None:
    assert {o.template for o in read_outcomes()} == set(read_graders())
