"""pointsman router: what the router has learned at run time, and whether it keeps its promise."""

from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer

from gateway.builder import load_knowledge_for
from gateway.cli.evaluate import EVALUATE_HELP, evaluate
from gateway.cli.probe import PROBE_HELP, probe
from gateway.cli.screen import console, count_bar, table
from gateway.cli.through import LADDER_HELP, ladder
from gateway.learning.store import RecordStore
from gateway.ledger.database import open_database
from gateway.served import served_catalog
from gateway.settings import SettingsError, load_settings
from router.bar import Cause, parse_bar
from router.record import Record, document_of, restart, tell
from router.rehearsal import judges_of, rehearse_all

app = typer.Typer(
    help="Look at what the router has learned; rehearse its promise; judge it on tables and on live models.",
    no_args_is_help=True,
)
app.command(help=EVALUATE_HELP)(evaluate)
app.command(help=LADDER_HELP)(ladder)
app.command(help=PROBE_HELP)(probe)


@app.command()
def export(
    template: Annotated[str | None, typer.Option(help="only this template, by its key")] = None,
) -> None:
    """Print what was learned at run time: a line of JSON for each template and model build."""
    settings = load_settings()
    catalog = served_catalog(settings)
    knowledge = load_knowledge_for(catalog, settings)
    terms = settings.learning.terms(knowledge.bar)
    names = {model.build: model.name for model in catalog}
    for kept in RecordStore(open_database(settings.database)).read(template=template):
        key, build = kept.key
        shown = tell(kept.record, terms, knowledge.given(key, build))
        line = {
            "template": key,
            "build": build,
            "model": names.get(build),
            "verdict": shown.verdict,
            "cause": shown.cause,
            "lower": shown.lower,
            "upper": shown.upper,
            "says": shown.says,
            "updated_at": kept.updated_at.isoformat(),
            "record": document_of(kept.record),
        }
        typer.echo(orjson.dumps(line).decode())


@app.command()
def reset(
    template: Annotated[str, typer.Argument(help="the template's key, as in x-pointsman-template")],
    model: Annotated[str | None, typer.Option(help="only of this model; of all when left out")] = None,
) -> None:
    """Forget what was learned of a template at run time, alarms too. A running gateway notices within seconds.

    What the tables say of it counts again. Trust that is earned anew is earned at a smaller error.
    """
    settings = load_settings()
    builds = None
    if model is not None:
        models = served_catalog(settings).models
        if model not in models:
            raise SettingsError(f"no model {model} is served; these are: {', '.join(models)}")
        builds = {models[model].build}
    at = datetime.now(UTC).timestamp()

    def how(record: Record) -> Record:
        return restart(record, Cause.RESET, at)

    keys = RecordStore(open_database(settings.database)).change_existing(template, builds, how)
    console.print(f"{len(keys)} records of template {template} begin anew", highlight=False, markup=False)


@app.command()
def rehearse(
    runs: Annotated[int, typer.Option(min=1, help="runs to simulate; each takes most of a second")] = 1000,
    first: Annotated[int, typer.Option(min=0, help="number of the first run: many may be done in pieces")] = 0,
    bar: Annotated[str, typer.Option(help="what a cheaper model must hold, as POINTSMAN_BAR says it")] = "0.9",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999999, help="with which it must hold it")] = 0.95,
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
