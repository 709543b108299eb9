"""pointsman models bench: what builds are worth, measured on this machine and kept in their cards."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.compress.cards import CARD, read, show
from gateway.cli.compress.exam import TABLE_CONFIDENCE, answered
from gateway.cli.compress.kept import keep, kept
from gateway.cli.compress.lesson import Subject
from gateway.cli.compress.made import put
from gateway.cli.compress.resources import machine
from gateway.cli.compress.rows import checkpoint_row, row_in
from gateway.cli.compress.running import MEASURING, do, text_of
from gateway.cli.compress.sources import Named, named
from gateway.cli.compress.speed import speed
from gateway.cli.compress.switches import switched
from gateway.cli.engines import started
from gateway.cli.ladder import COLLECT_PARALLEL, answers_path
from gateway.cli.prompts.place import Dir, folder_at, prompt_in, suite_of
from gateway.cli.screen import console, count_bar, problems
from gateway.settings import Settings, load_settings
from models.catalog import CatalogError, Model
from models.engine import Engine, EngineError
from router.bounds import wilson_interval
from router.collect import Answered, collect, read_answers
from router.ladder import LadderPrompt, read_ladder, sample

HELP = """Measure builds side by side: size, memory, perplexity, speed, accuracy and energy.

A build is a row of the catalogue, or a folder that one of these commands has made. Perplexity is of one text that
ships with Pointsman (--text: another), computed by transformers; all else is asked through the engine that serves the
build: time to the first token, tokens a second one at a time and eight at a time, the memory of its processes,
suites of a folder of prompts (--suite, may be repeated), and prompts of a ladder file (--ladder, --per-task of each
task). Accuracy has Wilson's interval at 95 %.

--switches measures each build of the engine vllm once more for each thing that can be switched: compilation, the cache
of prompts that begin alike, prompts in chunks, guessed tokens, the type of kept keys and values.

Energy is what the processor's meter says, where the machine shows one, else an estimate: the engine's processor
seconds times --watts, what one busy core draws. Answers are kept: stopped and begun anew, it asks only what is missing.

Examples:

pointsman models bench smollm2-135m-instruct-q4_1 builds/135m-gptq builds/135m-w8a8

pointsman models bench builds/135m-w8a8 --suite text/sentiment --dir prompts/templates --ladder ladder.jsonl.gz

pointsman models bench smollm2-135m-instruct-bf16 --switches --no-perplexity
"""

WATTS = 15.0  # of one busy core of a server's processor, of 200 to 250 W for 16 to 20 cores with its share of memory


def bench(
    builds: Annotated[list[str], typer.Argument(help="rows of the catalogue, or folders", metavar="ROW_OR_FOLDER...")],
    suite: Annotated[list[str] | None, typer.Option(help="a prompt whose suite is run; may be repeated")] = None,
    directory: Dir = None,
    tier: Annotated[str, typer.Option(help="the tier whose text of these prompts every build is told")] = "small",
    ladder: Annotated[Path | None, typer.Option(help="a ladder file (JSON lines, gzip)", exists=True)] = None,
    per_task: Annotated[int, typer.Option(min=1, help="prompts of each of its tasks")] = 5,
    text: Annotated[Path, typer.Option(help="the text of the perplexity", exists=True, dir_okay=False)] = MEASURING,
    watts: Annotated[float, typer.Option(min=0.1, help="what one busy core draws")] = WATTS,
    perplexity: Annotated[bool, typer.Option(help="compute the perplexity; needs torch")] = True,
    serve: Annotated[bool, typer.Option(help="start the engine and ask it")] = True,
    switches: Annotated[bool, typer.Option("--switches", help="each build, then with each thing switched")] = False,
) -> None:
    settings = load_settings()
    folder = folder_at(directory) if suite else None
    subjects = []
    for name in suite or ():
        assert folder is not None
        found = prompt_in(folder, name)
        subjects.append(Subject(found.template, tier, suite_of(folder, found)))
    rungs = sample(read_ladder(ladder), per_task) if ladder else []
    made = []
    origins = [named(settings, build) for build in builds]
    rows = [row_of(origin) for origin in origins]
    switching = [switched(row) if switches and serve else {} for row in rows]
    for origin, row, others in zip(origins, rows, switching, strict=True):
        measured: dict[str, Any] = {"at": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "engine": row.engine}
        if perplexity:
            asked = {"source": str(origin.folder.resolve()), "text": text_of(text)}
            measured |= do(settings, "measure", asked, f"measure {row.name}")
        measured |= _stored(row, measured)
        if serve:
            measured |= asyncio.run(_asked(settings, row, text_of(text), watts, subjects, rungs))
        made.append(_keep(settings, origin, row, measured))
        for says, other in others.items():
            measured = asyncio.run(_asked(settings, other, text_of(text), watts, subjects, rungs))
            made.append({"name": says, "measured": measured})
    show(made)
    for card in made:
        if problem := card["measured"].get("problem"):
            console.print(f"{card['name']}: {problem}", highlight=False, markup=False, soft_wrap=True)


def row_of(origin: Named) -> Model:
    """How a build is served: as its row says, else by vLLM."""
    return origin.row or row_in(origin.folder) or checkpoint_row(origin.folder, None, "vllm")


def _stored(row: Model, measured: dict[str, Any]) -> dict[str, Any]:
    """A file of four bits is as large as it is, though its perplexity was computed from the same weights made whole."""
    return {"weights_bytes": row.file.size_bytes} if row.file else {}


async def _asked(
    settings: Settings, row: Model, text: str, watts: float, subjects: Sequence[Subject], rungs: Sequence[LadderPrompt]
) -> dict[str, Any]:
    """What was measured, or the problem that kept its engine from answering."""
    try:
        return await _served(settings, row, text, watts, subjects, rungs)
    except (CatalogError, EngineError) as error:
        problems.print(f"{row.name} could not be asked: {error}", highlight=False, markup=False, soft_wrap=True)
        return {"problem": str(error)}


async def _served(
    settings: Settings, row: Model, text: str, watts: float, subjects: Sequence[Subject], rungs: Sequence[LadderPrompt]
) -> dict[str, Any]:
    async with started(settings, row) as engine:
        measured: dict[str, Any] = dict(await speed(engine, text, watts))
        accuracy = {}
        for subject in subjects:
            examination = await answered(settings, engine, row, subject, subject.suite)
            passed = [one.passed for one in examination.results]
            accuracy[subject.template.id] = _count(sum(passed), len(passed))
        if rungs:
            accuracy["ladder"] = await _ladder(settings, engine, row, rungs)
    return {**measured, "accuracy": accuracy}


async def _ladder(settings: Settings, engine: Engine, row: Model, rungs: Sequence[LadderPrompt]) -> dict[str, Any]:
    path, wanted = answers_path(settings), {prompt.id for prompt in rungs}
    with count_bar() as bar:
        task = bar.add_task(f"{row.name}: ladder", total=len(rungs))

        def tell(one: Answered) -> None:
            bar.advance(task)

        await collect(
            engine, rungs, path, model=row.name, build=row.build, concurrency=COLLECT_PARALLEL, on_answer=tell
        )
    answers = {one.prompt_id: one for one in read_answers(path) if one.build == row.build and one.prompt_id in wanted}
    return _count(sum(one.correct for one in answers.values()), len(answers))


def _count(passed: int, total: int) -> dict[str, Any]:
    return {"passed": passed, "total": total, "interval": list(wilson_interval(passed, total, TABLE_CONFIDENCE))}


def _keep(settings: Settings, origin: Named, row: Model, measured: dict[str, Any]) -> dict[str, Any]:
    """In its folder where a command has made it, and with what this machine knows of builds."""
    is_ours = (origin.folder / CARD).is_file() and origin.row is None
    bare = {"name": row.name, "command": "bench", "of": {"name": origin.name}, "facts": {}}
    before = read(origin.folder) if is_ours else kept(settings).get(row.build, bare)
    card = {**before, "build": row.build}
    card["measured"] = {**(card.get("measured") or {}), **measured}
    if is_ours:
        put(origin.folder, card, row)
    keep(settings, card)
    return card
