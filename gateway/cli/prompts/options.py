"""The options that commands about prompts share, and how a draft is shown and written."""

import difflib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.prompts.improving import Subject
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.screen import console
from prompts.files import variant_file
from prompts.folder import ENDING
from prompts.optimise.budget import Budget
from prompts.optimise.search import SEARCHES
from prompts.template import Template


def _usd(written: str) -> Decimal:
    try:
        value = Decimal(written)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value <= 0:
        raise typer.BadParameter("is no amount of US dollars over 0, such as 0.50")
    return value


Name = Annotated[str, typer.Argument(help="the prompt, as support/triage", metavar="NAME")]
Dir = Annotated[Path, typer.Option("--dir", help="the folder of prompts", exists=True, file_okay=False)]
Tier = Annotated[str, typer.Option(help="the tier that the text is for")]
Calls = Annotated[int, typer.Option(min=1, max=1_000_000, help="calls to spend at most")]
Usd = Annotated[Decimal | None, typer.Option(parser=_usd, help="US dollars to spend at most", metavar="USD")]
Seconds = Annotated[float | None, typer.Option(min=1, help="seconds to search at most")]
Seed = Annotated[int, typer.Option(help="of what is left to chance")]
Searches = Annotated[
    list[str] | None, typer.Option("--search", help=f"only this search: {', '.join(SEARCHES)}; may be repeated")
]
Writer = Annotated[str | None, typer.Option(help="the tier whose model rewrites; the safe one when none is given")]
Write = Annotated[bool, typer.Option("--write", help="write the draft beside the prompt; else it is only shown")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


@dataclass(frozen=True, slots=True)
class Options:
    tier: str
    budget: Budget
    seed: int
    searches: tuple[str, ...]
    writer: str | None


def options(
    tier: str, calls: int, usd: Decimal | None, seconds: float | None, seed: int, searches: list[str] | None,
    writer: str | None,
) -> Options:  # fmt: skip
    names = tuple(searches or SEARCHES)
    if unknown := [name for name in names if name not in SEARCHES]:
        raise PromptsFailed(f"there is no search {', '.join(unknown)}; there are: {', '.join(SEARCHES)}")
    return Options(tier, Budget(calls, usd, seconds), seed, names, writer)


def variant_path(folder: Path, name: str, tier: str) -> Path:
    return folder / name / f"{name.rpartition('/')[2]}.{tier}{ENDING}"


def draft_text(draft: Template, tier: str, about: str) -> str:
    return variant_file(draft.variants[tier], about)


def show_diff(path: Path, text: str) -> None:
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = difflib.unified_diff(there.splitlines(), text.splitlines(), str(path), f"{path} (draft)", lineterm="")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def first_line(subject: Subject, command: str) -> str:
    made = f"A draft by `pointsman prompts {command} {subject.template.id}`"
    return f"{made}; it serves once it is published and has passed."
