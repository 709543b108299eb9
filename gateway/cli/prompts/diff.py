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
from gateway.cli.prompts.traffic import DayCost, Traffic, day_costs, traffic_of
from gateway.cli.screen import console, table
from gateway.ledger.database import open_database
from gateway.settings import Settings, load_settings
from prompts.diff import Change, diff, token_delta
from prompts.library import Library, PromptNotFound
from prompts.lint import Counter
from prompts.promptfile import Policy
from prompts.reference import PRODUCTION, reference
from prompts.template import Template

FILE = "file"  # what the folder says now
CHARACTERS_PER_TOKEN = 4  # of English, by rule of thumb; --tokens counts
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
    changes = diff(one, two)
    _show_changes(changes)
    if not changes:
        return
    targets = targets_of(lineup_of(settings), settings, policy)
    deltas = asyncio.run(_counted(settings, targets, one, two)) if tokens else _guessed(targets, one, two)
    _show_costs(settings, library, policy, (one, two), deltas, is_guess=not tokens)


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


def _guessed(targets: Sequence[Target], one: Template, two: Template) -> Mapping[str, int]:
    return _deltas(targets, one, two, {target.tier: _guess for target in targets})


def _guess(text: str) -> int:
    return round(len(text) / CHARACTERS_PER_TOKEN)


async def _counted(settings: Settings, targets: Sequence[Target], one: Template, two: Template) -> Mapping[str, int]:
    async with counters(settings, targets) as counting:
        return await anyio.to_thread.run_sync(_deltas, targets, one, two, counting)


def _deltas(
    targets: Sequence[Target], one: Template, two: Template, counting: Mapping[str, Counter]
) -> Mapping[str, int]:
    """By tier, how many more tokens *two* has; without those that cannot be rendered."""
    found = {}
    for tier in dict.fromkeys(target.tier for target in targets):
        delta = token_delta(one, two, tier, counting[tier]) if tier in counting else None
        if delta is not None:
            found[tier] = delta
    return found


def _show_costs(
    settings: Settings,
    library: Library,
    policy: Policy,
    sides: tuple[Template, Template],
    deltas: Mapping[str, int],
    *,
    is_guess: bool,
) -> None:
    about = "about " if is_guess else ""
    for tier, delta in deltas.items():
        console.print(f"{about}{delta:+,} tokens a call on {tier}", highlight=False)
    traffic = _traffic(settings, library, sides)
    if not traffic:
        console.print("no traffic recorded, so nothing is said of money", highlight=False)
        return
    targets = {target.place.model: target for target in targets_of(lineup_of(settings), settings, policy)}
    rows = {name: target.row for name, target in targets.items() if target.row is not None}
    costs = day_costs(traffic, rows, lambda model: deltas.get(targets[model].tier) if model in targets else None)
    shown = table("model", "calls a day.", "cached.", "tokens a call.", "USD a day.")
    for cost in costs:
        share = cost.traffic.cached_share
        money = "unknown" if cost.usd is None else f"{cost.usd:+.6f}"
        cached = "unknown" if share is None else f"{share:.0%}"
        shown.add_row(cost.traffic.model, f"{cost.traffic.calls_per_day:,.1f}", cached, f"{cost.tokens:+,}", money)
    console.print(shown)
    _show_sum(costs)


def _show_sum(costs: Sequence[DayCost]) -> None:
    known = [cost.usd for cost in costs if cost.usd is not None]
    if known:
        unknown = len(costs) - len(known)
        left = f", without {unknown} models of unknown price" if unknown else ""
        console.print(f"{sum(known):+.6f} USD a day{left}", highlight=False)


def _traffic(settings: Settings, library: Library, sides: tuple[Template, Template]) -> list[Traffic]:
    """Of every version of the prompt, as an edit replaces what is called now."""
    if not is_there(settings):
        return []
    versions = library.versions.get(sides[0].id, {}).values()
    keys = {*(version.template.key for version in versions), *(side.key for side in sides)}
    database = open_database(settings.database)
    try:
        return traffic_of(database, keys)
    finally:
        database.dispose()
