"""pointsman route: which model would answer, why one did, and what another policy would have cost."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.builder import load_knowledge_for
from gateway.cli.screen import console, table
from gateway.decisions import find_decision, read_served
from gateway.ledger.database import open_database
from gateway.runtime import decide
from gateway.schema import parse_chat
from gateway.served import served_catalog
from gateway.settings import SettingsError, load_settings
from models.catalog import load_catalog
from router.bar import parse_bar
from router.decision import Decision
from router.replay import Choose, Replay, by_evidence, cheapest, replay, safe
from router.strategies import STRATEGIES
from router.transcript import decided_again, is_same

TEXT = "text"  # the command that `pointsman route "what a user would write"` means


class _TextFirst(TyperGroup):
    """What does not begin with a command's name is a text to be routed, with its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if known else [TEXT, *args])


app = typer.Typer(
    cls=_TextFirst,
    no_args_is_help=True,
    help='Which model would answer, and why: `pointsman route "What is 17 * 23?"` (the same as `route text`).',
)


@app.command(TEXT)
def route_text(
    text: Annotated[str, typer.Argument(help="what the user would write")],
    system: Annotated[
        str | None, typer.Option(help="the system message: it names the template, whose outcomes decide")
    ] = None,
    model: Annotated[str, typer.Option(help="the model name in the request")] = "auto",
) -> None:
    """Dry run: show the decision for one request and what it rests on; no model is called.

    Try it with a template that has outcomes: `pointsman ladder templates` lists them.
    """
    settings = load_settings()
    catalog = served_catalog(settings)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    request = parse_chat(json.dumps({"model": model, "messages": messages}).encode(), catalog)
    decision, seconds = decide(STRATEGIES[settings.strategy](), load_knowledge_for(catalog, settings), catalog, request)
    console.print(f"[bold]{decision.model}[/]   basis: {decision.basis}   {1e3 * seconds:.2f} ms", highlight=False)
    console.print(f"template {decision.template or 'none: no system message, no tools'}", highlight=False)
    if not decision.estimates:
        console.print(decision.reason, highlight=False)
        return
    _show_estimates(decision)


@app.command()
def explain(request_id: Annotated[str, typer.Argument(help="the x-request-id of an answer")]) -> None:
    """Show why a request went where it went, and make its decision again from what it was made from.

    Reads the ledger; nothing of what has been learned since is looked at.
    """
    kept = find_decision(open_database(load_settings().database), request_id)
    document = kept.document
    again = decided_again(document)
    took = "" if kept.seconds is None else f"   {1e3 * kept.seconds:.2f} ms"
    first = document["order"][0]
    console.print(f"[bold]{first}[/]   basis: {document['basis']}{took}   {kept.at:%Y-%m-%d %H:%M:%S}", highlight=False)
    console.print(document["reason"], highlight=False, soft_wrap=True)
    if kept.prompt is not None:
        console.print(f"prompt {kept.prompt}", highlight=False, soft_wrap=True)
    if kept.model not in (None, first):
        console.print(f"in the end {kept.model} answered ({kept.outcome})", highlight=False)
    if again is None:
        console.print("no candidates were weighed")
        return
    _show_estimates(again)
    if is_same(again, document):
        console.print(f"made again: the same choice, {', '.join(again.order)}", highlight=False)
        return
    console.print(f"[red]made again: {', '.join(again.order)}[/], as this version decides otherwise", highlight=False)
    raise typer.Exit(1)


@app.command()
def simulate(
    bar: Annotated[str | None, typer.Option(help="another bar, such as 0.95 or safe-0.02")] = None,
    strategy: Annotated[str, typer.Option(help="another strategy: evidence, safe or cheapest")] = "evidence",
    catalog: Annotated[
        Path | None, typer.Option(help="a catalogue with other prices", exists=True, dir_okay=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="so many of the newest requests", min=1)] = 10_000,
) -> None:
    """Make the ledger's decisions again under another policy, and show what that would have cost and been worth.

    Quality is known only where feedback tells it of an answer that the same model would have given; of the rest nothing
    is claimed.
    """
    settings = load_settings()
    own = parse_bar(settings.bar, settings.confidence)
    wanted = None if bar is None else _bar(bar, settings.confidence)
    if wanted is not None and (wanted.margin is None) != (own.margin is None):
        raise SettingsError(f"--bar {bar}: decisions were held to {own}; write a bar of that kind")
    ways: dict[str, Choose] = {"evidence": by_evidence(wanted, own), "safe": safe, "cheapest": cheapest}
    if strategy not in ways:
        raise SettingsError(f"--strategy {strategy}: it is evidence, safe or cheapest")
    rows = load_catalog(catalog) if catalog else served_catalog(settings)
    served = list(read_served(open_database(settings.database), dict(settings.learning.feedback), limit))
    if not served:
        raise SettingsError("the ledger has no answered request with a decision; send some with model auto first")
    _show_replay(replay(served, ways[strategy], rows.models))


def _bar(written: str, confidence: float) -> Any:
    try:
        return parse_bar(written, confidence)
    except ValueError as error:
        raise SettingsError(f"--bar {written}: {error}") from error


def _show_estimates(decision: Decision) -> None:
    shown = table("model", "basis", "verdict", "what is known")
    for estimate in decision.estimates:
        shown.add_row(estimate.model, estimate.basis, estimate.verdict, estimate.says)
    console.print(shown)
    _show_costs(decision)


def _show_costs(decision: Decision) -> None:
    """What the request was expected to take of each model, as far as that was written."""
    shown = table("model", "expected USD.", "prompt.", "cached.", "answer.", "waits s.")
    weighed = [(candidate, candidate.expected) for candidate in decision.candidates]
    for candidate, expected in weighed:
        if expected is not None:
            usd = "unknown" if candidate.expected_usd is None else f"{candidate.expected_usd:.3g}"
            tokens = (expected.prompt_tokens, expected.cached_tokens, expected.completion_tokens)
            shown.add_row(candidate.model, usd, *map(str, tokens), f"{expected.wait_seconds:.1f}")
    if shown.row_count:
        console.print(shown)


def _show_replay(made: Replay) -> None:
    shown = table("", "then.", "simulated.")
    shown.add_row("requests", str(made.requests), str(made.requests))
    shown.add_row("another model would answer", "", f"{made.changed} ({made.changed / made.requests:.0%})")
    shown.add_row("cost, USD", f"{made.cost_then_usd:.6f}", f"{made.cost_now_usd:.6f}")
    rate = f"{made.then_passed} of {made.then_judged}" if made.then_judged else "nobody told"
    shown.add_row("right, of those told", rate, f"{made.passed} of {made.judged}" if made.judged else "unknown")
    shown.add_row("95 %, same model", "", _percent(made.quality))
    shown.add_row("95 %, all told, at the ends", "", _percent(made.quality_at_the_ends))
    console.print(shown)
    if made.unpriced:
        console.print(f"{made.unpriced} requests have no known cost on one side and are left out of both sums")
    if made.unjudged or not made.judged:
        console.print(
            "The ledger cannot say how good the answers of other models would have been"
            f" ({made.unjudged} with an outcome would have gone elsewhere).",
            soft_wrap=True,
        )


def _percent(interval: tuple[float, float] | None) -> str:
    return "the ledger cannot say" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"
