"""pointsman prompts optimise: a better text for one tier, as a draft, with what it is worth on held-out cases."""

import asyncio
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.cli.prompts.asking import whom_to_ask
from gateway.cli.prompts.improving import (
    Asking,
    Measured,
    Subject,
    find,
    measure,
    shown,
    shown_apart,
    subject,
    too_few,
)
from gateway.cli.prompts.options import (
    AsJson,
    Calls,
    Dir,
    Name,
    Options,
    Searches,
    Seconds,
    Seed,
    Tier,
    Usd,
    Write,
    Writer,
    draft_text,
    first_line,
    options,
    show_diff,
    variant_path,
)  # fmt: skip
from gateway.cli.prompts.ready import Ready, asked, models_of
from gateway.cli.prompts.shown import INTERVAL_CONFIDENCE
from gateway.cli.prompts.tiers import lineup_of
from gateway.cli.screen import console, print_json, problems
from gateway.cli.whole import write_whole
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from prompts.library import tier_of
from prompts.optimise.budget import Purse
from prompts.optimise.search import Found
from prompts.suite import Suite
from prompts.template import Template
from router.bar import Tally
from router.bounds import difference_lower_bound
from router.evidence import tally_of


@dataclass(frozen=True, slots=True)
class Improved:
    """What a search has found and spent, and the held-out table. `draft`: None where nothing better was found.

    `rows`: as it is, the draft, then the safe tier, told its own text and, where that is another tier, the draft's.
    """

    found: Found
    draft: Template | None
    rows: tuple[Measured, ...]
    calls: int
    usd: Decimal
    seconds: float

    @property
    def before(self) -> Measured:
        return self.rows[0]

    @property
    def after(self) -> Measured | None:
        return self.rows[1] if self.draft is not None else None

    @property
    def told_too(self) -> Measured | None:
        """The safe tier told the draft's text."""
        return self.rows[3] if len(self.rows) > 3 else None

    @property
    def safe(self) -> Measured:
        """Of the text that it is told now."""
        return self.rows[1 + (self.draft is not None)] if len(self.rows) > 2 or self.draft is None else self.rows[0]

    def document(self) -> dict[str, Any]:
        return {
            "ended": self.found.ended,
            "spent": {"calls": self.calls, "usd": float(self.usd), "seconds": round(self.seconds, 1)},
            "trials": [
                {"name": t.name, "passed": t.passed, "of": len(t.examined), "whole": t.whole, "refused": t.problem}
                for t in self.found.trials
            ],
            "held_out": [row.document() for row in self.rows],
        }


def optimise(
    name: Name,
    dir: Dir = Path("prompts"),
    tier: Tier = "small",
    budget_calls: Calls = 3000,
    budget_usd: Usd = None,
    seconds: Seconds = 1800,
    seed: Seed = 0,
    search: Searches = None,
    writer: Writer = None,
    write: Write = False,
    json: AsJson = False,
) -> None:
    """Search a better text for one tier: well-chosen examples, then rewritten instructions. It comes out as a draft.

    It learns from half of the suite's cases, chooses by a quarter, and is judged on the last quarter, which it never
    sees. It stops when the bar is met, or a budget is spent; started again, it goes on where it stopped.
    """
    asking = options(tier, budget_calls, budget_usd, seconds, seed, search, writer)
    settings = load_settings()
    about = subject(dir, name)
    improved = asyncio.run(improve(about, settings, asking, about.held_out))
    if json:
        print_json(improved.document())
    else:
        show(about, improved)
    hand_over(dir, about, improved.draft, tier, "optimise", write=write, quiet=json)


def safe_tier(about: Subject, settings: Settings) -> str:
    models = len(served_catalog(settings).chatting)
    return tier_of(models - 1, models, about.policy.tiers)


async def improve(about: Subject, settings: Settings, asking: Options, suite: Suite) -> Improved:
    """*suite*: what the texts that might serve are asked in the end, the held-out cases among it. Raises PromptsFailed,
    EngineError.
    """
    tier, catalog, safe = asking.tier, served_catalog(settings), safe_tier(about, settings)
    lineup, purse = lineup_of(settings), Purse(asking.budget)
    wanted = tuple(dict.fromkeys((tier, asking.writer or safe, safe)))
    if warning := too_few(about.bars.of_tier(tier), len(about.held_out.cases), settings.confidence):
        problems.print(warning, highlight=False, markup=False)
    async with asked(settings, models_of(catalog, about.policy.tiers, wanted)) as on:
        ready, needs = Ready(on, lineup, purse), about.suite.needs
        async with whom_to_ask(ready, settings, about.policy, needs) as asks:
            writer = on[asking.writer or safe]
            found = await find(about, on[tier], writer, asks, settings, purse, asking.searches, asking.seed)
            spent = (purse.calls, purse.usd, purse.seconds)
            draft = found.draft(about.template, tier)
            askings = [Asking("as it is", about.template, on[tier], suite)]
            if draft is not None:
                askings.append(Asking("draft", draft, on[tier], suite))
            if safe != tier:
                askings.append(Asking("as it is", about.template, on[safe], suite))
            if safe != tier and draft is not None:
                other = _told_as(draft, tier, safe)
                askings.append(Asking(f"that for {tier}", other, on[safe], about.held_out))
            rows = await measure(about, askings, asks, lineup, settings)
    return Improved(found, draft, tuple(rows), *spent)


def _told_as(draft: Template, tier: str, other: str) -> Template:
    """The draft with *other* told what *tier* is: what helps one model may not help another."""
    return replace(draft, variants={**draft.variants, other: draft.variants[tier]})


def show(about: Subject, improved: Improved) -> None:
    found = improved.found
    spent = f"{improved.calls} calls, ${improved.usd:.4f}, {improved.seconds:.0f} s"
    console.print(f"{len(found.trials)} trials, {spent}: {found.ended}", highlight=False, soft_wrap=True)
    if found.best is not None and found.start is not None:
        of = len(about.cases.validation)
        best = f"{found.best.passed}/{of} ({found.best.name})"
        console.print(f"validation: {found.start.passed}/{of} as it is, {best} at best", highlight=False)
    console.print(f"\n{len(about.held_out.cases)} held-out cases, which no search has seen:", highlight=False)
    console.print(shown(improved.rows))
    if (apart := shown_apart(improved.rows)) is not None:
        console.print(apart)
    if hint := for_all(improved):
        console.print(hint, highlight=False, soft_wrap=True)


def for_all(improved: Improved) -> str | None:
    """What to do where the safe tier, too, is shown to do better with the draft's text than with its own."""
    told, safe = improved.told_too, improved.safe
    if told is None:
        return None
    own = {result.case: result.passed for result in safe.results}
    seen = sum((tally_of(one.passed, own.get(one.case)) for one in told.results), Tally())
    if difference_lower_bound(seen.lost, seen.won, seen.paired, INTERVAL_CONFIDENCE) <= 0:
        return None
    return (
        f"{told.tier} does better with that text, too: {seen.passed} of {seen.total} against "
        f"{seen.passed - seen.won + seen.lost} with its own. As the "
        "prompt's own messages, not those of a variant, it serves all tiers."
    )


def hand_over(
    folder: Path, about: Subject, draft: Template | None, tier: str, command: str, *, write: bool, quiet: bool
) -> None:
    """Show what would change, and write it where that was asked for. What is served does not change by it."""
    out = problems if quiet else console
    if draft is None:
        out.print("\nNothing better was found; no draft.")
        return
    path = variant_path(folder, about.template.id, tier)
    text = draft_text(draft, tier, first_line(about, command))
    if not quiet:
        console.print()
        show_diff(path, text)
    if write:
        write_whole(path, text)
        out.print(f"\nWritten to {path}. It is a draft: publish it to let it serve.", highlight=False, soft_wrap=True)
    else:
        out.print(f"\nA draft for {path}; --write keeps it.", highlight=False, soft_wrap=True)
