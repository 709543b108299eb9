"""pointsman router probe: a new model gets its ability profile from a few prompts, without retraining."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.builder import probed_folder
from gateway.cli.failed import CommandFailed
from gateway.cli.ladder import answers_path, collect_all
from gateway.cli.screen import console, count_bar, table
from gateway.settings import Settings, load_settings
from models.catalog import Catalog, CatalogError, Model, load_catalog
from models.engine import EngineError
from router.collect import Answered, read_answers
from router.difficulty import SolveModel, load_difficulty
from router.ladder import LadderPrompt, Split, read_ladder, split_of
from router.outcomes import read_looks, read_outcomes
from router.probed import PROBE_SET, add_probed, read_probe_set, read_probed, write_probe_set

if TYPE_CHECKING:  # the extra `fit` may not be installed
    from router.evaluation.probed import ProbeRow

FEWEST_PROMPTS = 30  # fewer say hardly more than the mean of the known models
MOST_PROMPTS = 300
SIZES = (50, 100, 300)  # of the probes that --evaluate compares

PROBE_HELP = """Give MODEL, a row of the catalogue, its ability profile from at most 300 prompts, without retraining.

The prompts were chosen once (router/data/probe.csv holds their ids); their text comes from --ladder. Every answer is
kept: stop it when you like, the same command goes on where it stopped. What it finds is kept in the data directory, in
the folder probed; a gateway takes it up when it starts or reloads. Models that the built-in tables know keep what these
say. Needs the extra fit.

--evaluate --tables DIR asks no model: it shows, on tables of outcomes (see pointsman router evaluate), how close probed
models come to ones of which everything is known.

Example: pointsman router probe my-model --ladder ladder.jsonl.gz
"""


class ProbeFailed(CommandFailed):
    """The probe cannot be made; the message says why, and what to do."""


@contextmanager
def _told() -> Iterator[None]:
    """What a probe raises, as one message; what the extra `fit` brings is imported late."""
    try:
        yield
    except ImportError as error:
        raise ProbeFailed(f"{error}; install the extra: pip install 'pointsman[fit]'") from error
    except EngineError as error:
        raise ProbeFailed(f"{error.message}; the same command goes on where it stopped") from error
    except CatalogError:
        raise
    except (OSError, ValueError) as error:
        raise ProbeFailed(str(error)) from error


@_told()
def probe(
    model: Annotated[str | None, typer.Argument(help="a model of the catalogue", metavar="MODEL")] = None,
    prompts: Annotated[int, typer.Option(min=FEWEST_PROMPTS, max=MOST_PROMPTS, help="prompts to ask")] = MOST_PROMPTS,
    ladder: Annotated[Path | None, typer.Option(help="the ladder file that has the prompts' text")] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="show on tables how close a probe comes")] = False,
    tables: Annotated[Path | None, typer.Option(help="folder of outcome tables, for --evaluate", metavar="DIR")] = None,
    known: Annotated[
        int | None, typer.Option(min=1, help="for --evaluate: so many other models have a profile; all when unset")
    ] = None,
    choose: Annotated[bool, typer.Option("--choose", help="choose the probe set anew from the tables")] = False,
) -> None:
    if choose:
        _choose()
    elif evaluate:
        if tables is None:
            raise ProbeFailed("--evaluate needs outcome tables: --tables DIR")
        _evaluate(tables, known)
    elif model is None or ladder is None:
        raise ProbeFailed("say which model, and where the prompts' text is: pointsman router probe MODEL --ladder FILE")
    else:
        settings = load_settings()
        _probe(settings, _row(settings, model), _prompts(ladder, prompts))


def _choose() -> None:
    from router.probe import choose

    ids = choose(read_outcomes())
    write_probe_set(ids)
    console.print(f"{len(ids)} ids are in {PROBE_SET}", highlight=False, soft_wrap=True)


def _row(settings: Settings, name: str) -> Model:
    """Of the settings file, else of the catalogue; it need not be served."""
    known = {**load_catalog(settings.catalog).models, **{row.name: row for row in settings.rows}}
    if name not in known:
        raise ProbeFailed(f"no model {name} in the catalogue; it has: {', '.join(known)}")
    if not Catalog({name: known[name]}, {}).chatting:
        raise ProbeFailed(f"{name} cannot chat, so there is nothing to probe")
    return known[name]


def _prompts(ladder: Path, size: int) -> list[LadderPrompt]:
    texts = {p.id: p for p in read_ladder(ladder)}
    wanted = read_probe_set()[:size]
    missing = [prompt_id for prompt_id in wanted if prompt_id not in texts]
    if missing:
        raise ProbeFailed(
            f"{ladder} has not {len(missing)} of the {len(wanted)} prompts of the probe set, as {missing[0]}: take "
            "the file that the tables were made with (docs/evidence.md), or choose a set anew: --choose"
        )
    return [texts[prompt_id] for prompt_id in wanted]


def _probe(settings: Settings, model: Model, prompts: Sequence[LadderPrompt]) -> None:
    from router.probe import profile

    folder = probed_folder(settings)
    read_probed(folder)  # told before an hour of work and not after
    asyncio.run(collect_all(settings, Catalog({model.name: model}, {}), list(prompts)))
    wanted = {p.id for p in prompts}
    answers = {a.prompt_id: a for a in read_answers(answers_path(settings)) if a.build == model.build}
    answers = {prompt_id: a for prompt_id, a in answers.items() if prompt_id in wanted}
    fitted = [a for a in answers.values() if split_of(a.prompt_id) is Split.FIT]
    builtin = load_difficulty().models
    looks = read_looks()
    found = profile(fitted, looks, [of for build, of in builtin.items() if build != model.build])
    unseen = [a for a in answers.values() if split_of(a.prompt_id) is Split.CALIBRATE]
    judged = [replace(a, chance=found.chance(looks[a.prompt_id], a.template)) for a in unseen]
    add_probed(folder, found, [*fitted, *judged])
    _show(model, list(answers.values()), len(fitted), found, builtin.get(model.build))
    console.print(f"kept in {folder}", highlight=False, soft_wrap=True)


def _show(
    model: Model, answers: Sequence[Answered], fitted: int, found: SolveModel, builtin: SolveModel | None
) -> None:
    looks = read_looks()
    shown = table("task", "prompts.", "right.", "profile says.")
    for task in sorted({a.task for a in answers}):
        inside = [a for a in answers if a.task == task]
        right = sum(a.correct for a in inside) / len(inside)
        said = sum(found.chance(looks[a.prompt_id], a.template) for a in inside) / len(inside)
        shown.add_row(task, str(len(inside)), f"{right:.0%}", f"{said:.0%}")
    console.print(shown)
    console.print(
        f"{model.name}: profile fitted on {fitted} prompts; the other {len(answers) - fitted} say from where on it may "
        "be trusted",
        highlight=False,
        soft_wrap=True,
    )
    if builtin is not None:
        console.print("the built-in tables know this build, so a gateway goes by these", soft_wrap=True)


def _evaluate(folder: Path, known: int | None) -> None:
    from router.evaluation.probed import evaluate_probes
    from router.evaluation.tables import TableError, read_folder

    try:
        tables = read_folder(folder)
    except TableError as error:
        raise ProbeFailed(str(error)) from error
    with count_bar() as bar:
        tasks = {}

        def show(of: str, model: str, models: int) -> None:
            if of not in tasks:
                tasks[of] = bar.add_task(of, total=models)
            bar.advance(tasks[of])

        rows = evaluate_probes(tables, SIZES, known, show)
    if not rows:
        raise ProbeFailed(f"{folder} has no tables of four models or more, of which one could be held out in turn")
    _show_rows(rows)


def _show_rows(rows: Sequence["ProbeRow"]) -> None:
    shown = table("set", "profile", "models.", "AUC.", "more than full, 95 %.", "Brier.", "more than full, 95 %.")
    for row in rows:
        shown.add_row(
            row.set,
            row.profile,
            str(row.models),
            f"{row.auc:.3f}",
            f"{row.auc_difference:+.3f} ({row.auc_interval[0]:+.3f} to {row.auc_interval[1]:+.3f})",
            f"{row.brier:.4f}",
            f"{row.brier_difference:+.3f} ({row.brier_interval[0]:+.3f} to {row.brier_interval[1]:+.3f})",
        )
    console.print(shown)
