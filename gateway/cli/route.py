"""pointsman route: which model would answer, and why. Calls nothing."""

import json
from typing import Annotated

import typer

from gateway.app import load_knowledge_for
from gateway.cli.screen import console, table
from gateway.runtime import decide
from gateway.schema import parse_chat
from gateway.served import served_catalog
from gateway.settings import load_settings
from router.strategies import STRATEGIES


def route(
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
    shown = table("model", "basis", "verdict", "what is known")
    for estimate in decision.estimates:
        shown.add_row(estimate.model, estimate.basis, estimate.verdict, estimate.says)
    console.print(shown)
