"""pointsman prompts lint: what is wrong with a folder of prompts, and what could be better, by file and line."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import typer
from rich.markup import escape

from gateway.cli.prompts.place import PromptsFailed, home_of, path_of
from gateway.cli.prompts.published import published_digests
from gateway.cli.prompts.tiers import counters, lineup_of, targets_of
from gateway.cli.screen import console, print_json, table
from gateway.settings import load_settings
from prompts.check import Severity
from prompts.folder import Folder, Prompt, fault_of, load
from prompts.lint import Counter, Prefix, lint, prefix
from prompts.reading import Fault, LoadRefused
from prompts.suite_file import SuiteError, load_suite
from prompts.template import BASE

LINT_HELP = """Say what is wrong with a folder of prompts, and what could be better: by file, line and remedy. No model.

Exit status 1 where there is an error, 0 where there are only warnings and notes. The table shows what every request of
a prompt begins with: an engine keeps it, so the longer it is, the less is read anew. It is counted in characters; with
--tokens the served models are started and count it in theirs.

Examples: pointsman prompts lint; pointsman prompts lint prompts --json > lint.json
"""
COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
PLACED = re.compile(r"(?P<path>.+?):(?P<line>\d+): (?P<says>.*)")


@dataclass(frozen=True, slots=True)
class Told:
    """One finding, as it is printed. `line` and `column` from 1; None where it is the file as a whole."""

    severity: Severity
    code: str
    path: str
    line: int | None
    column: int | None
    says: str
    prompt: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)
        return f"{place}: {self.says}"


@dataclass(frozen=True, slots=True)
class Linted:
    told: tuple[Told, ...]
    prefixes: tuple[tuple[str, Prefix], ...]  # with the prompt's id
    prompts: int

    @property
    def errors(self) -> int:
        return sum(one.severity is Severity.ERROR for one in self.told)


def lint_command(
    directory: Annotated[Path | None, typer.Argument(help="the folder; else . or ./prompts", metavar="DIR")] = None,
    against: Annotated[
        str | None, typer.Option(help="note what differs from the versions that this label points to: production")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="start the served models and count in their tokens")] = False,
    json: Annotated[bool, typer.Option("--json", help="print findings and prefixes as JSON")] = False,
) -> None:
    root = path_of(directory)
    digests = published_digests(load_settings(), against) if against else {}
    found = asyncio.run(_with_tokens(root, digests)) if tokens else linted(root, digests)
    if json:
        print_json(_document(found))
    else:
        _show(found)
    raise typer.Exit(1 if found.errors else 0)


def linted(root: Path, published: Mapping[str, str], counting: Mapping[str, Counter] | None = None) -> Linted:
    """*published*: digests by prompt, where there are some to compare with. *counting*: tokens, by tier."""
    try:
        folder = load(root)
    except LoadRefused as error:
        return Linted(tuple(_of_fault(Severity.ERROR, "load", fault) for fault in error.faults), (), 0)
    except OSError as error:
        raise PromptsFailed(f"{root}: cannot be read: {error.strerror}") from error
    told: list[Told] = []
    prefixes = []
    for prompt in folder.prompts.values():
        told += _about(folder, prompt, published.get(prompt.template.id), counting or {})
        for variant in (BASE, *prompt.template.variants):
            if measured := prefix(prompt.template, variant, counting):
                prefixes.append((prompt.template.id, measured))
    return Linted(tuple(told), tuple(prefixes), len(folder.prompts))


def _about(folder: Folder, prompt: Prompt, digest: str | None, counting: Mapping[str, Counter]) -> Iterator[Told]:
    has_suite = prompt.tests is not None or prompt.cases is not None
    for finding in lint(prompt.template, has_suite=has_suite, published=digest, counters=counting):
        fault = fault_of(prompt, finding)
        yield _of_fault(finding.severity, finding.code, fault, prompt.template.id)
    if has_suite:
        try:
            load_suite(home_of(prompt), folder.policy.tiers or None)
        except SuiteError as error:
            for line in str(error).splitlines():
                yield _of_suite(line, prompt)


def _of_fault(severity: Severity, code: str, fault: Fault, prompt_id: str | None = None) -> Told:
    return Told(severity, code, str(fault.path), fault.line, fault.column, fault.says, prompt_id)


def _of_suite(line: str, prompt: Prompt) -> Told:
    placed = PLACED.fullmatch(line)
    if placed is None:
        return Told(Severity.ERROR, "suite", str(home_of(prompt)), None, None, line, prompt.template.id)
    path, number, says = placed["path"], int(placed["line"]), placed["says"]
    return Told(Severity.ERROR, "suite", path, number, None, says, prompt.template.id)


async def _with_tokens(root: Path, published: Mapping[str, str]) -> Linted:
    settings = load_settings()
    try:
        policy = load(root).policy
    except LoadRefused:
        return linted(root, published)
    async with counters(settings, targets_of(lineup_of(settings), settings, policy)) as counting:
        return await anyio.to_thread.run_sync(linted, root, published, counting)


def _document(found: Linted) -> dict[str, Any]:
    return {
        "object": "prompts.lint",
        "errors": found.errors,
        "prompts": found.prompts,
        "findings": [asdict(one) for one in found.told],
        "prefixes": [{"prompt": prompt_id, **asdict(measured)} for prompt_id, measured in found.prefixes],
    }


def _show(found: Linted) -> None:
    for one in found.told:
        colour = COLOURS[one.severity]
        line = f"[{colour}]{one.severity}[/] {escape(str(one))} [dim]({one.code})[/]"
        console.print(line, highlight=False, soft_wrap=True)
    if found.prefixes:
        tiers = list(dict.fromkeys(tier for _, measured in found.prefixes for tier in measured.tokens))
        shown = table("prompt", "text for", "begins with.", "fixed in all.", *(f"tokens, {tier}." for tier in tiers))
        for prompt_id, measured in found.prefixes:
            counts = [f"{measured.tokens[tier]:,}" if tier in measured.tokens else "" for tier in tiers]
            sizes = (f"{measured.characters:,}", f"{measured.fixed_characters:,}")
            shown.add_row(prompt_id, measured.variant, *sizes, *counts)
        console.print(shown)
    others = len(found.told) - found.errors
    console.print(f"{found.prompts} prompts: {found.errors} errors, {others} warnings and notes", highlight=False)
