"""pointsman ladder: measure the served models on gradeable prompts, learn from it, and show what routing is worth."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.builder import load_knowledge_for, make_engines
from gateway.cli.models import fetch
from gateway.cli.screen import console, count_bar, table
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Catalog, Model, load_catalog
from models.engine import Engine, EngineState
from prompts.message import template_key
from router.check import BUILTIN_VERIFIERS, write_verifiers
from router.collect import Answered, collect, read_answers
from router.graders import BUILTIN_GRADERS, graders_of, read_graders, write_graders
from router.ladder import LadderPrompt, read_ladder, sample
from router.looks import looks
from router.outcomes import (
    BUILTIN_LOOKS,
    BUILTIN_OUTCOMES,
    DATA,
    Outcome,
    read_looks,
    read_outcomes,
    write_looks,
    write_outcomes,
)

if TYPE_CHECKING:  # the extra `fit` may not be installed
    from router.agreement import Area

app = typer.Typer(
    help="Measure models on gradeable prompts, learn from it, show what routing is worth.", no_args_is_help=True
)

LadderFile = Annotated[
    Path, typer.Option("--ladder", help="the ladder file (JSON lines, gzip)", exists=True, dir_okay=False)
]
COLLECT_CONTEXT_TOKENS = 2048  # a ladder prompt and its answer are under 1,000
COLLECT_PARALLEL = 4
READY_TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.1


class LadderFailed(Exception):
    """A file or an engine cannot be used; the message says which and why."""


@contextmanager
def _told() -> Iterator[None]:
    """What reading tables and prompts raises, as one message."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise LadderFailed(str(error)) from error


@app.command("collect")
@_told()
def collect_answers(
    ladder: LadderFile,
    per_task: Annotated[int, typer.Option(help="prompts of each task")] = 40,
    task: Annotated[list[str] | None, typer.Option(help="only this task; may be repeated")] = None,
    model: Annotated[list[str] | None, typer.Option(help="only this model; may be repeated")] = None,
    again: Annotated[bool, typer.Option("--again", help="ask what the published tables have already, too")] = False,
) -> None:
    """Run the served models over a sample of the ladder. Stop it when you like: it goes on where it stopped."""
    settings = load_settings()
    catalog = served_catalog(settings).only(tuple(model)) if model else served_catalog(settings)
    prompts = sample((p for p in read_ladder(ladder) if not task or p.task in task), per_task)
    published = set() if again else {(o.prompt_id, o.build) for o in read_outcomes()}
    asyncio.run(collect_all(settings, catalog, prompts, published))


@app.command()
@_told()
def publish(ladder: LadderFile) -> None:
    """Add what was collected to the tables that the router learns from: outcomes, and looks of the prompts.

    There is no text of either in them. A new outcome takes the place of an older one of the same prompt and model.
    """
    outcomes: dict[tuple[str, str], Outcome] = {(o.prompt_id, o.build): o for o in read_outcomes()}
    answers = read_answers(answers_path(load_settings()))
    outcomes.update({(a.prompt_id, a.build): a for a in answers})
    write_outcomes(BUILTIN_OUTCOMES, outcomes.values())
    answered = {prompt_id for prompt_id, _ in outcomes}
    rows = dict(read_looks())
    rows.update({p.id: looks({"messages": list(p.messages)}) for p in read_ladder(ladder) if p.id in answered})
    write_looks(BUILTIN_LOOKS, rows)
    graded = ((template_key({"messages": list(p.messages)}) or "", p.grade) for p in read_ladder(ladder))
    write_graders(BUILTIN_GRADERS, {**read_graders(), **graders_of(graded)})
    there = f"{len(outcomes)} outcomes and the looks of {len(rows)} prompts are in {DATA}"
    console.print(f"{there}, {len(answers)} of these outcomes new or anew", soft_wrap=True)


@app.command()
@_told()
def fit() -> None:
    """Learn from the committed tables how hard a prompt is for each model. Needs the extra `fit`."""
    from router.difficulty import BUILTIN_DIFFICULTY
    from router.fit import fit as fit_all  # scikit-learn: two seconds to import
    from router.fit import fit_verifiers, with_chances, write_difficulty

    outcomes = list(read_outcomes())
    fitted = fit_all(outcomes, read_looks(), lambda name: console.print(f"fitting {name}"))
    write_difficulty(BUILTIN_DIFFICULTY, fitted)
    write_outcomes(BUILTIN_OUTCOMES, with_chances(outcomes, fitted))
    verifiers = fit_verifiers(outcomes)
    write_verifiers(BUILTIN_VERIFIERS, verifiers)
    shown = table("model", "prompts.", "AUC held out.", "AUC unseen task.")
    for one in fitted:
        shown.add_row(one.model, str(one.fit_prompts), f"{one.held_out_auc:.3f}", f"{one.unseen_task_auc:.3f}")
    console.print(shown)
    console.print(f"{len(verifiers)} verifiers of answers, each for a template and a model")


@app.command()
@_told()
def report(
    tasks: Annotated[bool, typer.Option(help="also show each task")] = True,
    strategy: Annotated[str | None, typer.Option(help="the strategy to judge; else POINTSMAN_STRATEGY")] = None,
    signals: Annotated[
        bool, typer.Option("--signals", help="only show what agreement and log-probabilities tell (extra: fit)")
    ] = False,
) -> None:
    """Show accuracy, share of large calls, cost and seconds on prompts that nothing was fitted on."""
    from router.report import report as make_report
    from router.strategies import STRATEGIES

    settings = load_settings()
    if signals:
        _show_signals(load_catalog(settings.catalog))
        return
    knowledge = load_knowledge_for(served_catalog(settings), settings)
    made = make_report(read_outcomes(), read_looks(), STRATEGIES[strategy or settings.strategy](), knowledge)
    shown = table("chosen", "prompts.", "right.", "95 % interval.", "large calls.", "USD per 1,000.", "seconds.")
    for row in made.rows:
        interval = f"{row.interval[0]:.1%} to {row.interval[1]:.1%}" if row.interval else ""
        cost = f"{1000 * row.cost_usd:.4f}"
        shown.add_row(
            row.name,
            str(row.prompts),
            f"{row.accuracy:.1%}",
            interval,
            f"{row.large_share:.1%}",
            cost,
            f"{row.seconds:.2f}",
        )
    console.print(shown)
    if not tasks:
        return
    by_task = table("task", "prompts.", "small.", "large.", "auto.", "large calls.", "decided by")
    for one in made.tasks:
        bases = ", ".join(f"{basis} {count}" for basis, count in one.bases.items())
        by_task.add_row(
            one.task,
            str(one.prompts),
            f"{one.small_accuracy:.0%}",
            f"{one.large_accuracy:.0%}",
            f"{one.auto_accuracy:.0%}",
            f"{one.large_share:.0%}",
            bases,
        )
    console.print()
    console.print(by_task)


def _show_signals(catalog: Catalog) -> None:
    """Of each chat model of the catalogue and the one above it."""
    try:
        from router.agreement import signals_of_pair  # scikit-learn: two seconds to import
    except ImportError as error:
        raise LadderFailed(f"{error}; install the extra: pip install 'pointsman[fit]'") from error
    outcomes = list(read_outcomes())
    console.print("Is the small model's answer right? Area under the ROC curve; 0.5 is chance.")
    for small, second in pairwise(catalog.chatting):
        found = signals_of_pair(outcomes, small.build, second.build)
        console.print(f"\n{small.name}, asked beside {second.name}", highlight=False, soft_wrap=True)
        if not found.prompts:
            console.print("no prompt on which both said something: pointsman ladder collect, then publish")
            continue
        console.print(
            f"{found.prompts} prompts of {found.tasks} tasks, {found.right} right, {found.agree} agree", highlight=False
        )
        shown = table("signal", "over all.", "95 % interval.", "within a task.", "95 % interval.")
        for told in found.signals:
            shown.add_row(told.signal, *_area(told.overall), *_area(told.within))
        console.print(shown)


def _area(area: "Area | None") -> tuple[str, str]:
    return (f"{area.value:.3f}", f"{area.interval[0]:.3f} to {area.interval[1]:.3f}") if area else ("", "")


@app.command()
@_told()
def templates(ladder: LadderFile) -> None:
    """Show the templates that have outcomes, with the system message that names each."""
    settings = load_settings()
    knowledge = load_knowledge_for(served_catalog(settings), settings)
    instructions = {
        template_key({"messages": list(p.messages)}): (p.task, str(p.messages[0]["content"]))
        for p in read_ladder(ladder)
    }
    shown = table("task", "system message", "model", "what is known")
    for key, (task, instruction) in sorted(instructions.items(), key=lambda item: item[1]):
        for model in knowledge.models[:-1]:
            known = knowledge.about(key, model.build)
            shown.add_row(task, instruction, model.name, known.says if known else "nothing")
    console.print(shown)


async def collect_all(
    settings: Settings, catalog: Catalog, prompts: list[LadderPrompt], published: Collection[tuple[str, str]] = ()
) -> None:
    """Every chat model of *catalog* answers *prompts*, one model after the other, but for pairs of prompt and build
    that are *published*. Raises LadderFailed, EngineError.
    """
    roomy = {"context_tokens": COLLECT_CONTEXT_TOKENS, "parallel": COLLECT_PARALLEL}
    for row in catalog.chatting:
        fetch(settings, row)
    narrowed = Catalog({row.name: row.model_copy(update=roomy) for row in catalog.chatting}, {})
    for name, [engine] in make_engines(narrowed, settings).items():
        await engine.start()
        try:
            await _until_ready(name, engine)
            row = narrowed.models[name]
            wanted = [prompt for prompt in prompts if (prompt.id, row.build) not in published]
            await _collect_one(settings, row, engine, wanted)
        finally:
            await engine.stop()


async def _collect_one(settings: Settings, model: Model, engine: Engine, prompts: list[LadderPrompt]) -> None:
    path = answers_path(settings)
    wanted = {p.id for p in prompts}
    done = [a for a in read_answers(path) if a.build == model.build and a.prompt_id in wanted]
    right, count = sum(a.correct for a in done), len(done)
    with count_bar() as bar:
        task = bar.add_task(model.name, total=len(prompts), completed=count)

        def show(answered: Answered) -> None:
            nonlocal right, count
            right, count = right + answered.correct, count + 1
            bar.update(task, completed=count, description=f"{model.name} {right / count:.0%}")

        await collect(
            engine,
            prompts,
            path,
            model=model.name,
            build=model.build,
            concurrency=COLLECT_PARALLEL,
            on_answer=show,
        )


async def _until_ready(name: str, engine: Engine) -> None:
    async with asyncio.timeout(READY_TIMEOUT_SECONDS):
        while (health := engine.health()).state is not EngineState.READY:
            if health.state is EngineState.FAILED:
                raise LadderFailed(f"{name}: {health.detail}")
            await asyncio.sleep(POLL_SECONDS)


def answers_path(settings: Settings) -> Path:
    """Of every answer that was ever collected on this machine."""
    return settings.cache_dir / "ladder" / "answers.jsonl"
