"""pointsman models search: the front of size against quality over bits per layer and blocks."""

from html import escape
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from gateway.cli.compress.cards import write_json
from gateway.cli.compress.front import plot
from gateway.cli.compress.running import CALIBRATION, Calibration, CompressFailed, Out, Source, do, text_of
from gateway.cli.compress.sources import Named, named
from gateway.cli.screen import console, table
from gateway.settings import load_settings

HELP = """Search for builds that lose least for their size: bits per layer, and blocks left out.

Layers are chosen for in groups: --runs runs of blocks, in each the attention and the feed-forward part by itself, with
4, 8 or 16 bits; up to --most-dropped blocks may go, those first that change least. Each trial rounds to the nearest in
memory and foretells half of a text; the other half is left for the judge, models bench. Trials of one size everywhere
come first.

The folder gets front.html with a plot and a table, trials.json, and for each build on the front a file of bits, which
models quantize --bits-per-layer takes. Interrupted, the same command goes on. A trial takes a 135M model some three
seconds on one core.

Example:

pointsman models search smollm2-135m-instruct-q4_1 --trials 60 --out builds/front
"""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}}
td:last-child,th:last-child{{text-align:left}}code{{font-size:.85em}}</style>
<h1>{title}</h1><p>{says}</p>
{plot}
<table><tr><th>trial</th><th>matrices, MB</th><th>perplexity</th><th>blocks left out</th><th>how to make it</th></tr>
{rows}</table></html>
"""


def search(
    source: Source,
    out: Out,
    trials: Annotated[int, typer.Option(min=4, max=10_000, help="builds to try")] = 60,
    runs: Annotated[int, typer.Option(min=1, max=64, help="runs of blocks that have bits of their own")] = 5,
    most_dropped: Annotated[int, typer.Option(min=0, max=64, help="blocks that may be left out")] = 2,
    group: Annotated[int, typer.Option(help="of four bits: weights that share a scale")] = 64,
    seed: Annotated[int, typer.Option(help="of what is left to chance")] = 0,
    calibration: Calibration = CALIBRATION,
) -> None:
    if out.exists():
        raise CompressFailed(
            f"{out} is there already; nothing was written. Name another with --out, or remove it first"
        )
    settings = load_settings()
    origin = named(settings, source)
    text = text_of(calibration)
    middle = text.find("\n", len(text) // 2)
    asked = {
        "source": str(origin.folder.resolve()),
        "trials": trials,
        "runs": runs,
        "most_dropped": most_dropped,
        "group": group,
        "seed": seed,
        "calibration": text[:middle],
        "text": text[middle:],
    }
    found = do(settings, "search", asked, f"search {origin.name}", "optuna")
    _write(out, origin, found)
    front = on_front(found)
    shown = table("trial.", "matrices, MB.", "perplexity.", "blocks left out.", "bits")
    for row in front:
        bits = ", ".join(f"{name} {count}" for name, count in row["bits"].items())
        shown.add_row(
            str(row["number"]), f"{row['size_bytes'] / 1e6:.1f}", f"{row['perplexity']:.2f}", str(row["drop"]), bits
        )
    console.print(shown)
    console.print(
        f"{len(front)} of {len(found['trials'])} builds are on the front: {out / 'front.html'}", soft_wrap=True
    )


def on_front(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The smallest first."""
    return sorted((row for row in found["trials"] if row["on_front"]), key=lambda row: row["size_bytes"])


def how(row: dict[str, Any], origin: Named, out: Path) -> str:
    """The commands that make it."""
    made = f"--bits-per-layer {out / _file(row)} --method rtn-w4a16 --out BUILD"
    if not row["drop"]:
        return f"pointsman models quantize {origin.name} {made}"
    pruned = f"pointsman models prune {origin.name} --method depth --drop {row['drop']} --out PRUNED"
    return f"{pruned} && pointsman models quantize PRUNED {made}"


def _file(row: dict[str, Any]) -> str:
    return f"{row['number']}.bits.yaml"


def _write(out: Path, origin: Named, found: dict[str, Any]) -> None:
    """The page comes last: where it is, all else is."""
    out.mkdir(parents=True)
    front = on_front(found)
    for row in front:
        (out / _file(row)).write_text(yaml.safe_dump(row["rules"], sort_keys=False), encoding="utf-8")
    write_json(out / "trials.json", found)
    rows = "\n".join(
        f"<tr><td>{row['number']}</td><td>{row['size_bytes'] / 1e6:.1f}</td><td>{row['perplexity']:.2f}</td>"
        f"<td>{row['drop']}</td><td><code>{escape(how(row, origin, out))}</code></td></tr>"
        for row in front
    )
    title = f"Builds of {escape(origin.name)}"
    says = f"{len(front)} of {len(found['trials'])} builds that were tried lose least for their size."
    (out / "front.html").write_text(
        PAGE.format(title=title, says=says, plot=plot(found["trials"]), rows=rows), encoding="utf-8"
    )
