"""pointsman router: what the router has learned, and whether its promise is kept."""

from typing import Annotated

import typer

from gateway.cli.screen import console, count_bar, table
from router.bar import parse_bar
from router.rehearsal import judges_of, rehearse_all

app = typer.Typer(help="Look at what the router has learned; rehearse its promise.", no_args_is_help=True)


@app.command()
def rehearse(
    runs: Annotated[int, typer.Option(min=1, help="runs to simulate; each takes half a second")] = 1000,
    first: Annotated[int, typer.Option(min=0, help="number of the first run, so that many may be done in pieces")] = 0,
    bar: Annotated[str, typer.Option(help="the bar, as POINTSMAN_BAR says it")] = "0.9",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999999)] = 0.95,
) -> None:
    """Simulate templates whose true pass-rates are known, with an adversary, and count how often the promise is broken.

    The real decision code beside a bound for samples of a fixed size that is looked at all the time, and an average.
    """
    held = parse_bar(bar, confidence)
    with count_bar() as progress:
        task = progress.add_task("rehearsing", total=runs * len(judges_of(held)))
        done = rehearse_all(held, range(first, first + runs), lambda name: progress.advance(task))
    shown = table("judge", "broken.", "of.", "share, 95 % interval.", "false.", "late.", "served.", "of worthy.")
    for one in done.values():
        low, high = one.interval
        shown.add_row(
            one.name,
            str(one.broken),
            str(len(one.runs)),
            f"{low:.1%} to {high:.1%}",
            str(sum(run.false for run in one.runs)),
            str(sum(run.late for run in one.runs)),
            f"{one.share(lambda run: run.served, lambda run: run.requests):.1%}",
            f"{one.share(lambda run: run.served_worthy, lambda run: run.worthy):.1%}",
        )
    console.print(shown)
    console.print(f"promised: broken in at most {1 - confidence:.1%} of runs", highlight=False)
