"""pointsman prompts import, export: prompts of other tools as ours, and ours as theirs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.prompts.lint import linted
from gateway.cli.prompts.place import (
    Dir,
    PromptId,
    PromptsFailed,
    folder_at,
    path_of,
    prompt_in,
    suite_of,
    told,
    written,
)
from gateway.cli.screen import console, problems
from prompts.exporting import FORMATS as TO
from prompts.importing import FORMATS as FROM
from prompts.importing import Imported, ImportRefused
from prompts.importing.made import MOST_BYTES

IMPORT_HELP = f"""Turn prompts of another tool into files of this folder. FORMAT: {", ".join(FROM)}.

openai: prompt objects as JSON, copied from the dashboard; their ids stay, so that clients need no change.

langfuse: what its API or an export gives.

github: .prompt.yml with testData and evaluators.

promptfoo: a configuration with its tests.

Everything that cannot be carried is told, with why; nothing of it runs here. Afterwards the folder is linted.

Example: pointsman prompts import github summary.prompt.yml
"""
EXPORT_HELP = f"""Write a prompt as a file of another tool. FORMAT: {", ".join(TO)}.

promptfoo: a configuration that asks this gateway. github: .prompt.yml. jsonl: a line for each test, with its messages
rendered. What the format has no place for is told.

Example: pointsman prompts export support/triage --format promptfoo --output triage.yaml
"""


def import_command(
    format_name: Annotated[str, typer.Argument(help="whose format it is", metavar="FORMAT")],
    files: Annotated[list[Path], typer.Argument(help="the files to read", metavar="FILE...")],
    directory: Dir = None,
    name: Annotated[str | None, typer.Option(help="call the prompt so; where the files hold one")] = None,
    force: Annotated[bool, typer.Option("--force", help="write over files that are there")] = False,
) -> None:
    if format_name not in FROM:
        raise PromptsFailed(f"{format_name}: no such format; there are: {', '.join(FROM)}")
    root = path_of(directory)
    found = [(file, one) for file in files for one in _read(format_name, file, name)]
    if name is not None and len(found) != 1:
        raise PromptsFailed(f"--name: the files hold {len(found)} prompts; leave it out")
    _check_ids(found)
    for file, one in found:
        home = root / one.id
        written({home / path: text for path, text in one.files.items()}, over=force)
        console.print(
            f"{escape(str(file))}: [bold]{one.id}[/] is in {escape(str(home))}", highlight=False, soft_wrap=True
        )
        for dropped in one.dropped:
            _tell(f"  [yellow]not carried[/] {escape(dropped)}")
    after = linted(root, {})
    homes = [str(root / one.id) for _, one in found]
    for finding in after.told:
        if any(finding.path.startswith(home) for home in homes):
            _tell(f"{finding.severity} {escape(str(finding))}")
    if any(finding.severity == "error" and finding.path.startswith(tuple(homes)) for finding in after.told):
        raise typer.Exit(1)


def _read(format_name: str, file: Path, name: str | None) -> list[Imported]:
    with told():
        if file.stat().st_size > MOST_BYTES:
            raise PromptsFailed(f"{file}: is larger than {MOST_BYTES:,} bytes")
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PromptsFailed(f"{file}: is not UTF-8 at byte {error.start}") from error
    try:
        found = list(FROM[format_name](text, file.stem))
    except ImportRefused as error:
        raise PromptsFailed(f"{file}: {error}") from error
    return [one.renamed(name) for one in found] if name is not None else found


def _check_ids(found: list[tuple[Path, Imported]]) -> None:
    by_id: dict[str, Path] = {}
    for file, one in found:
        if one.id in by_id:
            raise PromptsFailed(f"{file} and {by_id[one.id]} both have a prompt {one.id}; take them over one by one")
        by_id[one.id] = file


def export_command(
    prompt_id: PromptId,
    format_name: Annotated[str, typer.Option("--format", help="promptfoo, github or jsonl")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the file to write; else it is printed")] = None,
    tier: Annotated[str | None, typer.Option(help="the tier whose text it is; the base when left out")] = None,
    directory: Dir = None,
) -> None:
    if format_name not in TO:
        raise PromptsFailed(f"--format {format_name}: no such format; there are: {', '.join(TO)}")
    folder = folder_at(directory)
    prompt = prompt_in(folder, prompt_id)
    suite = suite_of(folder, prompt) if prompt.tests or prompt.cases else None
    with told():
        made = TO[format_name].write(prompt.template, suite, tier)
    if output is not None:
        written({output: made.text}, over=True)
    else:
        typer.echo(made.text, nl=False)
    for dropped in made.dropped:
        _tell(f"[yellow]not carried[/] {escape(dropped)}")


def _tell(text: str) -> None:
    problems.print(text, highlight=False, soft_wrap=True)
