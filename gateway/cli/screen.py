"""The terminal: one console for results, one for problems, and the look of tables and progress bars."""

import logging
import sys
from typing import Any

import orjson
import structlog
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

BAR_COLUMNS = 14

console = Console()
problems = Console(stderr=True)


def log_problems() -> None:
    """A command's log has only what is wrong, and has it beside its results, which stand alone on standard output."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def print_json(document: Any) -> None:
    """As text for a program, whatever the terminal is."""
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def table(*columns: str, title: str | None = None) -> Table:
    """Columns whose name ends in a dot are numbers, set to the right; the dot is not shown."""
    made = Table(title=title, box=None, title_justify="left", pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        is_number = column.endswith(".")
        made.add_column(
            column.removesuffix("."), justify="right" if is_number else "left", overflow="fold", no_wrap=place == 0
        )
    return made


def prose(text: str) -> str:
    """Help of several paragraphs, for a terminal of any width: lines end where the terminal does."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def download_bar() -> Progress:
    return _progress(DownloadColumn())


def count_bar() -> Progress:
    return _progress(MofNCompleteColumn())


def _progress(amount: ProgressColumn) -> Progress:
    """Narrow enough for a model's name and a terminal of 80 columns."""
    bar = BarColumn(bar_width=BAR_COLUMNS)
    return Progress(TextColumn("{task.description}"), bar, amount, TimeRemainingColumn(compact=True), console=problems)
