"""pointsman prompts downshift: can a cheaper tier answer this prompt, told in another way? Measured, not moved."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.prompts.drafts import check_published, try_draft
from gateway.cli.prompts.improving import CALLS, Measured, Subject, subject
from gateway.cli.prompts.labels import Role
from gateway.cli.prompts.optimise import Improved, hand_over, improve, safe_tier, show
from gateway.cli.prompts.options import (
    AsJson,
    Calls,
    Dir,
    Name,
    Searches,
    Seconds,
    Seed,
    Tier,
    Usd,
    Write,
    Writer,
    options,
)  # fmt: skip
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.tiers import lineup_of
from gateway.cli.screen import console, print_json, table
from gateway.library.gate import gate_of
from gateway.library.lineup import Lineup
from gateway.settings import load_settings
from prompts.receipt import Receipt
from prompts.reference import PRODUCTION
from router.canary import STEPS
from router.gate import Gate

MOST_LISTED = 20  # regressions


@dataclass(frozen=True, slots=True)
class Shift:
    """What a move would be worth. `before`, `after`: the gate on the tier with the text that is there, and the draft's.

    `lost`: cases that the safe tier passes and the draft does not.
    """

    improved: Improved
    before: Gate
    after: Gate | None
    lost: tuple[str, ...]

    @property
    def moves(self) -> bool:
        return self.after is not None and self.after.opens

    @property
    def saved_usd(self) -> Decimal | None:
        """Per call."""
        row = self.improved.after or self.improved.before
        small, safe = row.cost_per_call_usd, self.improved.safe.cost_per_call_usd
        return None if small is None or safe is None else safe - small

    def document(self) -> dict[str, Any]:
        saved = self.saved_usd
        return {
            **self.improved.document(),
            "gate": {"before": _rows(self.before), "after": None if self.after is None else _rows(self.after)},
            "moves": self.moves,
            "saved_usd_per_1000_calls": None if saved is None else float(saved * CALLS),
            "lost": list(self.lost),
        }


def downshift(
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
    canary: Annotated[
        bool, typer.Option("--canary", help="where the gate opens, save the draft and try it under the label")
    ] = False,
    label: Annotated[str, typer.Option(help="the label that --canary is of")] = PRODUCTION,
    role: Role = None,
) -> None:
    """Let a cheaper tier earn a prompt: improve its text for that tier, test it on held-out cases, hold it to the gate.

    Ends with status 0 whether or not the gate opens: both are results. What serves is not changed, unless by --canary:
    then the draft becomes a version, which all of the suite is run on, and takes a share of the label's requests if the
    gate opens for that too.
    """
    asking = options(tier, budget_calls, budget_usd, seconds, seed, search, writer)
    settings = load_settings()
    about = subject(dir, name)
    if safe_tier(about, settings) == tier:
        raise PromptsFailed(f"{tier} is the safe tier, under which there is none; name a cheaper one with --tier")
    if canary and json:
        raise PromptsFailed("--canary says in words what it does; leave --json out")
    lineup = lineup_of(settings)
    if tier not in {place.tier for place in lineup.routed(about.template, about.policy)}:
        raise PromptsFailed(f"{name} is never sent to {tier}; see its routing.tiers and its model")
    if canary:
        check_published(settings, about, label)
    improved = asyncio.run(improve(about, settings, asking, about.suite))
    made = shift(about, improved, lineup)
    if json:
        print_json(made.document())
    else:
        show(about, improved)
        show_gate(made)
    hand_over(dir, about, improved.draft, tier, "downshift", write=write, quiet=json)
    if canary and made.moves and improved.draft is not None:
        try_draft(settings, about, improved.draft, label, tier, role)


def shift(about: Subject, improved: Improved, lineup: Lineup) -> Shift:
    row = improved.after or improved.before
    safe = improved.safe.receipt
    after = _gate(about, improved.after, safe, lineup) if improved.after is not None else None
    return Shift(improved, _gate(about, improved.before, safe, lineup), after, _lost(row.receipt, safe))


def _gate(about: Subject, row: Measured, safe: Receipt, lineup: Lineup) -> Gate:
    """What a gated label would ask of the row's tier, word for word. The safe tier is there to be compared with."""
    held = gate_of(row.template, lineup, about.policy, about.suite, (row.receipt, safe))
    return Gate(tuple(one for one in held.rows if one.tier == row.tier))


def _lost(receipt: Receipt, safe: Receipt) -> tuple[str, ...]:
    passed = {result.case for result in safe.results if result.passed}
    return tuple(result.case for result in receipt.results if not result.passed and result.case in passed)


def show_gate(made: Shift) -> None:
    shown = table("text", "tier", "of", "bar.", "gate", "why")
    for text, held in (("as it is", made.before), ("draft", made.after)):
        for row in held.rows if held is not None else ():
            shown.add_row(text, row.tier, row.metric, row.bar, "opens" if row.holds else "stays shut", row.why)
    console.print()
    console.print(shown)
    saved = made.saved_usd
    if saved is not None:
        does, amount = "save" if saved >= 0 else "cost more by", abs(saved * CALLS)
        console.print(f"\n{CALLS:,} calls on {made.improved.before.tier} {does} ${amount:.4f}.", highlight=False)
    if made.lost:
        some = ", ".join(made.lost[:MOST_LISTED])
        console.print(f"{len(made.lost)} cases that {made.improved.safe.tier} passes are lost: {some}", highlight=False)
    if made.moves:
        shares = ", ".join(f"{step.share:.0%} for {step.outcomes} outcomes" for step in STEPS)
        says = f"It may move: publish the draft. A canary (--canary) takes {shares}, then all."
        console.print(says, highlight=False, soft_wrap=True)
    else:
        console.print("It stays where it is.", highlight=False)


def _rows(held: Gate) -> list[dict[str, Any]]:
    return [
        {
            "tier": row.tier,
            "metric": row.metric,
            "bar": row.bar,
            "holds": row.holds,
            "why": row.why,
            "passed": row.passed,
            "total": row.total,
            "bound": row.bound,
        }
        for row in held.rows
    ]
