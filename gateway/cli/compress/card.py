"""pointsman models card: what is known of builds, before and after side by side. Nothing is measured anew."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.compress.cards import is_short, plain, read, show
from gateway.cli.compress.kept import kept
from gateway.cli.compress.running import CompressFailed
from gateway.cli.screen import console
from gateway.settings import load_settings
from models.catalog import load_catalog

HELP = """Show the cards of builds side by side: what was made of what, and what was measured of each.

A folder that a command has made has its card beside it; a row of the catalogue has one once it was measured:
pointsman models bench. Of one build that was made of another, both are shown: before and after.

Examples:

pointsman models card builds/135m-gptq

pointsman models card smollm2-135m-instruct-q4_1 builds/135m-gptq builds/135m-w8a8
"""


def card(
    builds: Annotated[list[str], typer.Argument(help="rows of the catalogue, or folders", metavar="ROW_OR_FOLDER...")],
) -> None:
    settings = load_settings()
    there, catalog = kept(settings), load_catalog(settings.catalog)
    shown = []
    for name in builds:
        if Path(name).is_dir():
            shown.append(read(Path(name)))
        elif name in catalog.models and catalog.models[name].build in there:
            shown.append(there[catalog.models[name].build])
        else:
            raise CompressFailed(f"{name}: nothing is known of it; pointsman models bench {name} measures it")
    if len(shown) == 1 and (before := shown[0]["of"].get("build")) in there:
        shown.insert(0, there[before])
    show(shown)
    for one in shown:
        facts = ", ".join(f"{name} {plain(value)}" for name, value in one["facts"].items() if is_short(value))
        says = f"{one['name']}: {one['command']} of {one['of']['name']}" + (f" ({facts})" if facts else "")
        console.print(says, highlight=False, markup=False, soft_wrap=True)
