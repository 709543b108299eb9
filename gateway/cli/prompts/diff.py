"""pointsman prompts diff: what another version says, in how many tokens, and what that costs at the real traffic."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

import anyio.to_thread
import typer
from rich.markup import escape

from gateway.cli.prompts.place import Dir, PromptId, PromptsFailed, folder_at, prompt_in
from gateway.cli.prompts.published import is_there, library_store
from gateway.cli.prompts.tiers import Target, counters, lineup_of, targets_of
from gateway.cli.screen import console, table
from gateway.library.edit import Edit, edit_of, keys_of
from gateway.library.traffic import Traffic
from gateway.settings import Settings, load_settings
from prompts.diff import Change
from prompts.library import Library, PromptNotFound
from prompts.lint import Counter
from prompts.promptfile import Policy
from prompts.reference import PRODUCTION, reference
from prompts.template import Template

FILE = "file"  # what the folder says now
DIFF_HELP = """Show what is another between two versions of a prompt: message by message, in tokens, and in money a day.

A and B are a version's number, a label, or `file`, which is what the folder says now. Left out, they are production
(or the latest) and `file`. Tokens are guessed from characters; --tokens starts the served models and counts in theirs.
Money is what the ledger's calls of the last four weeks would have cost more, each model at its price and cached share.

Examples: pointsman prompts diff support/triage; pointsman prompts diff support/triage 3 4 --tokens
"""
COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def diff_command(
    prompt_id: PromptId,
    old: Annotated[str | None, typer.Argument(help="a number, a label or file", metavar="A")] = None,
    new: Annotated[str | None, typer.Argument(help="a number, a label or file", metavar="B")] = None,
    directory: Dir = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="start the served models and count in their tokens")] = False,
) -> None:
    settings = load_settings()
    library = _library(settings)
    policy = library.policy
    sides = []
    for which in (old or _usual(library, prompt_id), new or FILE):
        if which == FILE:
            folder = folder_at(directory)
            policy = folder.policy
            sides.append(prompt_in(folder, prompt_id).template)
        else:
            sides.append(_recorded(library, prompt_id, which))
    one, two = sides
    targets = targets_of(lineup_of(settings), settings, policy)
    if tokens and one != two:
        edit = asyncio.run(_counted(settings, library, policy, targets, one, two))
    else:
        edit = _edit(settings, library, policy, targets, one, two)
    _show_changes(edit.changes)
    if edit.changes:
        _show_costs(edit)


def _library(settings: Settings) -> Library:
    if not is_there(settings):
        return Library()
    with library_store(settings) as store:
        return store.library()


def _usual(library: Library, prompt_id: str) -> str:
    if prompt_id not in library.versions:
        raise PromptsFailed(f"the database has no {prompt_id} to compare with; take it in with: pointsman prompts push")
    return PRODUCTION if PRODUCTION in library.labels.get(prompt_id, {}) else "latest"


def _recorded(library: Library, prompt_id: str, which: str) -> Template:
    try:
        return library.find(reference(prompt_id, which)).template
    except (PromptNotFound, ValueError) as error:
        raise PromptsFailed(str(error)) from error


def _show_changes(changes: Sequence[Change]) -> None:
    for change in changes:
        for line in str(change).splitlines():
            colour = COLOURS.get(line[:1])
            shown = f"[{colour}]{escape(line)}[/]" if colour else escape(line)
            console.print(shown, highlight=False, soft_wrap=True)
    if not changes:
        console.print("nothing is another")


def _edit(
    settings: Settings,
    library: Library,
    policy: Policy,
    targets: Sequence[Target],
    one: Template,
    two: Template,
    counting: Mapping[str, Counter] | None = None,
) -> Edit:
    rows = {target.place.model: target.row for target in targets if target.row is not None}
    traffic = _traffic(settings, library, (one, two))
    return edit_of(one, two, lineup_of(settings), policy, rows, traffic, counting)


async def _counted(
    settings: Settings, library: Library, policy: Policy, targets: Sequence[Target], one: Template, two: Template
) -> Edit:
    async with counters(settings, targets) as counting:
        return await anyio.to_thread.run_sync(_edit, settings, library, policy, targets, one, two, counting)


def _show_costs(edit: Edit) -> None:
    about = "about " if edit.is_guess else ""
    for tier, delta in edit.tokens.items():
        console.print(f"{about}{delta:+,} tokens a call on {tier}", highlight=False)
    if not edit.costs:
        console.print("no traffic recorded, so nothing is said of money", highlight=False)
        return
    shown = table("model", "calls a day.", "cached.", "tokens a call.", "USD a day.")
    for cost in edit.costs:
        share = cost.traffic.cached_share
        money = "unknown" if cost.usd is None else f"{cost.usd:+.6f}"
        cached = "unknown" if share is None else f"{share:.0%}"
        shown.add_row(cost.traffic.model, f"{cost.traffic.calls_per_day:,.1f}", cached, f"{cost.tokens:+,}", money)
    console.print(shown)
    if edit.usd_per_day is not None:
        unknown = sum(cost.usd is None for cost in edit.costs)
        left = f", without {unknown} models of unknown price" if unknown else ""
        console.print(f"{edit.usd_per_day:+.6f} USD a day{left}", highlight=False)


def _traffic(settings: Settings, library: Library, sides: tuple[Template, Template]) -> list[Traffic]:
    if not is_there(settings):
        return []
    with library_store(settings) as store:
        return store.traffic(keys_of(sides, library.versions.get(sides[0].id, {}).values()))
