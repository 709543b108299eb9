"""pointsman models search: the front of cost against quality over bits, blocks, channels and tokens attended to."""

from collections.abc import Callable
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

HELP = """Search for builds that lose least for what they cost: bits per layer, blocks and channels left out.

Layers are chosen for in groups: --runs runs of blocks, in each the attention and the feed-forward part by itself, with
4, 8 or 16 bits. Up to --most-dropped blocks may go, those first that change least; all feed-forward parts may become
narrower, an eighth at a time, down to --least-width. Each trial rounds to the nearest in memory and foretells half of a
text; the other half is left for the judge, models bench. Trials of one size everywhere come first. Cost is the size of
the matrices. A trial takes a 135M model some two seconds on one core.

--context TOKENS searches for long contexts, and chooses how many tokens a decode step attends to, too: all, or 256 to
2,048 where a row with that attention_budget_tokens would heed it, in contexts of four budgets or more. Cost is then
what a step reads at that context, matrices, keys and values; quality is of the last 256 tokens, read as decode steps
would behind a prefix that is read densely. The prefix is read anew in each trial: at 4,096 tokens one takes a 135M
model some 19 seconds on one core. It needs a --calibration text of twice so many tokens; the one that comes along has
a thousand.

The folder gets front.html with a plot and a table, trials.json, and for each build on the front a file of bits, which
models quantize --bits-per-layer takes. Interrupted, the same command goes on.

Examples:

pointsman models search smollm2-135m-instruct-q4_1 --trials 60 --out builds/front

pointsman models search smollm2-135m-instruct-q4_1 --context 4096 --calibration book.txt --out builds/front-4k
"""

AS_IT_IS = 16  # bits
GROUP = 64  # as `quantize` has it unasked
Cell = Callable[[dict[str, Any]], str]  # of a row, as it is shown

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}}
td:last-child,th:last-child{{text-align:left}}code{{font-size:.85em}}</style>
<h1>{title}</h1><p>{says}</p>
{plot}
<table><tr>{headings}</tr>
{rows}</table></html>
"""


def search(
    source: Source,
    out: Out,
    trials: Annotated[int, typer.Option(min=4, max=10_000, help="builds to try")] = 60,
    runs: Annotated[int, typer.Option(min=1, max=64, help="runs of blocks that have bits of their own")] = 5,
    most_dropped: Annotated[int, typer.Option(min=0, max=64, help="blocks that may be left out")] = 2,
    least_width: Annotated[
        float, typer.Option(min=0.125, max=1, help="of the channels of feed-forward parts that stay; 1: all")
    ] = 0.75,
    context: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="choose how much is attended to, in contexts so long")
    ] = None,
    group: Annotated[int, typer.Option(help="of four bits: weights that share a scale")] = GROUP,
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
        "least_width": least_width,
        "context": context,
        "group": group,
        "seed": seed,
        "calibration": text[:middle],
        "text": text[middle:],
    }
    found = do(settings, "search", asked, f"search {origin.name}", "optuna")
    _write(out, origin, found, calibration, group)
    front, columns = on_front(found), _columns(found)
    shown = table(*(f"{heading}." for heading, _ in columns))
    for row in front:
        shown.add_row(*(cell(row) for _, cell in columns))
    console.print(shown)
    console.print(
        f"{len(front)} of {len(found['trials'])} builds are on the front: {out / 'front.html'}", soft_wrap=True
    )


def on_front(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The cheapest first."""
    cost, _ = _cost(found)
    return sorted((row for row in found["trials"] if row["on_front"]), key=lambda row: row[cost])


def how(row: dict[str, Any], origin: Named, out: Path, calibration: Path, group: int) -> str:
    """The commands that make it, and what its row says."""
    steps, looks = [], "" if calibration == CALIBRATION else f" --calibration {calibration}"
    if row["drop"]:
        steps.append(("prune", f"--method depth --drop {row['drop']}{looks}", "PRUNED"))
    if row["keep"] < 1:
        steps.append(("prune", f"--method width --keep {row['keep']:g}{looks}", "NARROWED"))
    if set(row["bits"].values()) != {AS_IT_IS}:
        size = "" if group == GROUP else f" --group {group}"
        steps.append(("quantize", f"--bits-per-layer {out / _file(row)} --method rtn-w4a16{size}", "BUILD"))
    commands, source = [], origin.name
    for name, wish, made in steps:
        commands.append(f"pointsman models {name} {source} {wish} --out {made}")
        source = made
    says = " && ".join(commands) or f"{source} as it is"
    if row["budget_tokens"] is None:
        return says
    return f"{says}; in its row for vLLM: numerics: {{attention_budget_tokens: {row['budget_tokens']}}}"


def _cost(found: dict[str, Any]) -> tuple[str, str]:
    """The key of what builds cost, and what it is."""
    if found["context_tokens"] is None:
        return "size_bytes", "matrices, MB"
    return "step_bytes", f"MB that a step reads at {found['context_tokens']:,} tokens"


def _columns(found: dict[str, Any]) -> list[tuple[str, Cell]]:
    cost, says = _cost(found)
    columns: list[tuple[str, Cell]] = [
        ("trial", lambda row: str(row["number"])),
        (says, lambda row: f"{row[cost] / 1e6:.1f}"),
        ("perplexity", lambda row: f"{row['perplexity']:.2f}"),
        ("blocks left out", lambda row: str(row["drop"])),
        ("channels", lambda row: f"{row['channels']:,}"),
    ]
    if found["context_tokens"] is not None:
        columns.append(("tokens attended to", lambda row: f"{row['budget_tokens'] or found['context_tokens']:,}"))
    return [*columns, ("bits of attention/feed-forward by run", _bits)]


def _bits(row: dict[str, Any]) -> str:
    """Such as `8/4 16/8`."""
    runs: dict[str, list[str]] = {}
    for name, count in row["bits"].items():
        runs.setdefault(name.split()[-1], []).append(str(count))
    return " ".join("/".join(run) for run in runs.values())


def _file(row: dict[str, Any]) -> str:
    return f"{row['number']}.bits.yaml"


def _write(out: Path, origin: Named, found: dict[str, Any], calibration: Path, group: int) -> None:
    """The page comes last: where it is, all else is."""
    out.mkdir(parents=True)
    front, columns = on_front(found), _columns(found)
    for row in front:
        (out / _file(row)).write_text(yaml.safe_dump(row["rules"], sort_keys=False), encoding="utf-8")
    write_json(out / "trials.json", found)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{cell(row)}</td>' for _, cell in columns)}"
        f"<td><code>{escape(how(row, origin, out, calibration, group))}</code></td></tr>"
        for row in front
    )
    page = PAGE.format(
        title=f"Builds of {escape(origin.name)}",
        says=f"{len(front)} of {len(found['trials'])} builds that were tried lose least for what they cost.",
        plot=plot(found["trials"], *_cost(found)),
        headings="".join(f"<th>{heading}</th>" for heading in (*(name for name, _ in columns), "how to make it")),
        rows=rows,
    )
    (out / "front.html").write_text(page, encoding="utf-8")
