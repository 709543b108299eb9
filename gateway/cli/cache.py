"""pointsman cache: whether a template may be answered from prompts alike."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cache.embedding import EmbedMaker, local_embedder
from gateway.cache.evidence import count_pairs, name_of, read_pairs, record
from gateway.cli.screen import console
from gateway.settings import load_settings
from router.bar import Verdict, parse_bar

EMBED_MAKER: EmbedMaker = local_embedder  # the one that the gateway is built with

app = typer.Typer(help="Judge the cache of answers to prompts alike.", no_args_is_help=True)
app.callback()(lambda: None)  # a group, although it has one command so far


@app.command()
def evaluate(
    template: Annotated[str, typer.Option(help="the template's key, as in x-pointsman-template")],
    pairs: Annotated[
        Path,
        typer.Option(help="JSON lines: asked, cached, right and fresh_right of each pair", exists=True, dir_okay=False),
    ],
    threshold: Annotated[float, typer.Option(min=0, max=1, help="least cosine similarity of the two prompts")] = 0.95,
    record_it: Annotated[bool, typer.Option("--record", help="keep the counts: a gateway then serves by them")] = False,
) -> None:
    """Count on how many pairs of prompts at least so alike the cached answer was right, against the operator's bar.

    Choose the threshold on other pairs than those that are counted: the bound is that of one look.
    """
    settings = load_settings()
    counted = count_pairs(read_pairs(pairs), EMBED_MAKER(), threshold)
    shown = parse_bar(settings.bar, settings.confidence).judge(counted.tally)
    console.print(f"{name_of(threshold)} answers {counted.tally.total} of {counted.pairs} pairs", highlight=False)
    console.print(f"{shown.verdict}: {shown.says}", highlight=False)
    if record_it:
        console.print(f"recorded in {record(settings.data_dir, template, threshold, counted.tally)}", highlight=False)
        if shown.verdict is not Verdict.HOLDS:
            console.print("it does not hold the bar: no request is answered by it", highlight=False)
