"""pointsman prompts canary: try a version on a cheaper tier with a share of a label's requests, or stop that."""

from typing import Annotated

import typer

from gateway.cli.prompts.labels import Exclude, Label, Message, Role, show_gate
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.published import library_store, operator
from gateway.cli.prompts.trials import say
from gateway.library.canaries import CanaryStore
from gateway.library.errors import GateShut
from gateway.library.store import LibraryStore
from gateway.settings import Settings, load_settings
from prompts.library import Version
from prompts.reference import PRODUCTION, read_reference
from router.bar import parse_bar

CANARY_HELP = """Try a version on a cheaper tier with a share of a label's requests. The label stays where it is.

It begins where promote would: the table says what is missing. What its answers show widens the share, step by step, and
at the end the label goes to the version by itself. Where they fall under the bar all requests are answered as before at
once, and status says why; then only a new version begins anew. --stop ends it; begun again it goes on where it was.

Examples:

pointsman prompts canary support/triage@4

pointsman prompts canary support/triage --stop
"""


def canary(
    named: Annotated[str, typer.Argument(help="the prompt, and its version: support/triage@4", metavar="ID@VERSION")],
    label: Label = PRODUCTION,
    tier: Annotated[str, typer.Option(help="the cheaper tier that it is tried on")] = "small",
    exclude: Exclude = None,
    stop: Annotated[bool, typer.Option("--stop", help="end the label's canary")] = False,
    role: Role = None,
    message: Message = "",
) -> None:
    settings = load_settings()
    with library_store(settings) as store:
        wanted, library = read_reference(named), store.library()
        expected = library.labels.get(wanted.id, {}).get(label)
        if stop:
            by = operator(role)
            say(CanaryStore(store).stop(wanted.id, label, expected=expected, by=by, message=message))
            return
        if "@" not in named:
            raise PromptsFailed(
                f"say which version is tried: {named}@NUMBER; pointsman prompts history {named} shows them"
            )
        begin(store, settings, library.find(wanted), label, tier, exclude or [], role, message)


def begin(
    store: LibraryStore,
    settings: Settings,
    version: Version,
    label: str,
    tier: str,
    excluded: list[str],
    role: str | None,
    message: str,
) -> None:
    """And say so. Raises PromptsFailed where the gate is shut, and what the library refuses."""
    prompt = version.template.id
    show_gate(version, store.gate(prompt, version.number, excluded))
    try:
        trial = CanaryStore(store).begin(
            prompt,
            label,
            version.number,
            tier,
            expected=store.library().labels.get(prompt, {}).get(label),
            by=operator(role),
            bar=parse_bar(settings.bar, settings.confidence),
            excluded=excluded,
            message=message,
        )
    except GateShut as error:
        raise PromptsFailed(
            f"{version.name} may not be tried: run pointsman prompts test {prompt}, then push; "
            "or leave a tier out with --exclude"
        ) from error
    say(trial)
