"""A table in Markdown, written row by row: a measurement that is cut short has shown what it found."""

from collections.abc import Sequence


class Table:
    def __init__(self, title: str, columns: Sequence[str]) -> None:
        self.rows: list[Sequence[object]] = []
        print(f"\n**{title}**\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)

    def add(self, *row: object) -> None:
        self.rows.append(row)
        print(f"| {' | '.join(map(str, row))} |", flush=True)
