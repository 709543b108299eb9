"""A table of results: one content for the terminal, for Markdown and for JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from gateway.cli.screen import console, table

LEAST_WIDTH = 110  # of the widest table; a narrower terminal breaks its lines, which reads better than broken numbers

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells are shown with three significant digits; None, which is not measured or not there, as nothing."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def show(self) -> None:
        shown = table(self.columns[0], *(f"{column}." for column in self.columns[1:]))
        for row in self.rows:
            shown.add_row(*(escape(text(cell)) for cell in row))
        for place, column in enumerate(self.columns):
            shown.columns[place].min_width = max(map(len, [*column.split(), *(text(row[place]) for row in self.rows)]))
        wide = Console(width=max(console.width, LEAST_WIDTH), soft_wrap=True)
        wide.print(f"\n[bold]{escape(self.title)}[/]", highlight=False)
        wide.print(shown, soft_wrap=False)
        for note in self.notes:
            wide.print(note, highlight=False, markup=False, style="dim")

    def markdown(self) -> str:
        head = [_line(self.columns), "|---|" + "---:|" * (len(self.columns) - 1)]
        body = [_line([text(cell) for cell in row]) for row in self.rows]
        return "\n".join([f"**{self.title}**\n", *head, *body, "", *(f"{note}  " for note in self.notes)])


def text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
