"""Tables: what is not known stays empty, and every figure keeps three digits."""

import pytest

from tests.bench.grid import Cell, Grid, text


@pytest.mark.parametrize(
    ("cell", "shown"),
    [(None, ""), (0.0, "0"), (0.01234, "0.0123"), (12.345, "12.3"), (56_789.1, "56,789"), (1000, "1,000"), ("a", "a")],
)
def test_a_cell_shows_what_is_known_of_it(cell: Cell, shown: str) -> None:
    assert text(cell) == shown


def test_markdown_has_a_line_for_each_row_and_each_note() -> None:
    grid = Grid("Title", ("name", "ms"), [["a", 1.5], ["b", None]], ["a note"])
    assert grid.markdown().split("\n") == [
        "**Title**",
        "",
        "| name | ms |",
        "|---|---:|",
        "| a | 1.5 |",
        "| b |  |",
        "",
        "a note  ",
    ]
