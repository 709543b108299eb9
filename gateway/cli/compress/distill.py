"""pointsman models distill: a small model learns one prompt of the safe tier, and is examined on cases it never saw."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.builder import model_store
from gateway.cli.compress.exam import Exam, sat
from gateway.cli.compress.kept import keep
from gateway.cli.compress.lesson import Lesson, Subject, Teacher, given_texts, lesson
from gateway.cli.compress.made import put
from gateway.cli.compress.rows import BESIDE, gguf_row
from gateway.cli.compress.running import CompressFailed, Out, do
from gateway.cli.compress.sources import named
from gateway.cli.engines import started
from gateway.cli.prompts.asking import of_engine
from gateway.cli.prompts.place import Dir, folder_at, prompt_in, suite_of
from gateway.cli.prompts.tiers import lineup_of
from gateway.cli.screen import console, count_bar, table
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Model, load_catalog
from prompts.promptfile import Policy
from prompts.suite import Split

HELP = """Teach a small model one prompt: it learns to answer as the safe tier does, and is examined on held-out cases.

It learns from the suite's train cases that say their answer, from --data (JSON lines of vars, with or without an
answer) and, with --write N, from texts that the teacher writes. What has no answer is answered by the teacher, which
is shown train cases. The validation cases choose when to stop; the held-out cases are seen by nobody before the end.

A low-rank update of every matrix is learnt and merged, so that the result is an ordinary checkpoint, and a GGUF file
where the student came from one. It appears when it is whole; an interrupted run goes on where it was. Some 80 examples
take a 135M model five minutes on one core, and 3 GB.

The result is a specialist: serve it as a row of its own (row.yaml), and it gets the requests of this prompt once its
suite's receipt holds the bar: pointsman prompts test. Of other prompts it has proved nothing and gets none.

Examples:

pointsman models distill smollm2-135m-instruct-q4_1 --prompt tenants --dir prompts/examples --out builds/tenants

pointsman models distill smollm2-135m-instruct-q4_1 --prompt tenants --write 100 --out builds/tenants
"""

LESSON = "lesson.jsonl"


def distill(
    student: Annotated[str, typer.Argument(help="the model to teach: a row of the catalogue", metavar="ROW")],
    prompt: Annotated[str, typer.Option("--prompt", help="the prompt to learn, as support/triage")],
    out: Out,
    directory: Dir = None,
    data: Annotated[
        Path | None, typer.Option(help="more texts: JSON lines of vars", exists=True, dir_okay=False)
    ] = None,
    write: Annotated[int, typer.Option(min=0, max=5000, help="texts that the teacher writes")] = 0,
    teacher: Annotated[
        str | None, typer.Option(help="the row that teaches; the safe tier's when none is given")
    ] = None,
    tier: Annotated[str, typer.Option(help="the tier whose text of the prompt is learnt")] = "small",
    epochs: Annotated[int, typer.Option(min=1, max=100, help="how often each example is seen")] = 4,
    rank: Annotated[int, typer.Option(min=1, max=256, help="of the update of each matrix")] = 16,
    rate: Annotated[float, typer.Option(min=1e-6, max=0.1, help="the highest learning rate")] = 5e-4,
    seed: Annotated[int, typer.Option(help="of what is left to chance")] = 0,
) -> None:
    settings = load_settings()
    folder = folder_at(directory)
    found = prompt_in(folder, prompt)
    subject = Subject(found.template, tier, suite_of(folder, found))
    row = load_catalog(settings.catalog).only((student,)).models[student]
    learnt = asyncio.run(_lesson(settings, subject, folder.policy, data, teacher, write, seed))
    _show_lesson(learnt)
    teaching = {"epochs": epochs, "rank": rank, "rate": rate, "seed": seed}
    result = taught(settings, row, learnt, teaching, out)
    made = as_row(settings, row, out)
    exams = asyncio.run(_exams(settings, subject, [row, made]))
    (out / LESSON).write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in learnt.examples))
    facts = {"prompt": subject.template.id, **teaching, **taught_facts(result), "held_out": exams[-1].says}
    card = {
        "name": made.name,
        "command": "distill",
        "of": {"name": row.name, "build": row.build},
        "build": made.build,
        "facts": facts,
        "lesson": {"origins": dict(learnt.origins), "left_out": dict(learnt.left_out)},
        "exams": [one.document() for one in exams],
        "losses": result["losses"],
    }
    put(out, card, made)
    keep(settings, card)
    _show_exams(exams)
    console.print(
        f"\n{out}: its row for a catalogue or the settings file is in {BESIDE}", highlight=False, soft_wrap=True
    )


def taught_facts(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("examples", "trained_parameters", "steps", "kept_step")}


def taught(settings: Settings, row: Model, learnt: Lesson, teaching: dict[str, Any], out: Path) -> dict[str, Any]:
    job = {
        "source": str(named(settings, row.name).folder),
        "result": str(out),
        "examples": list(learnt.examples),
        "validation": list(learnt.validation),
        "teaching": teaching,
    }
    return do(settings, "distill", job, "teach", "peft")


def as_row(settings: Settings, row: Model, out: Path) -> Model:
    """The result as a GGUF file beside its checkpoint, and the row of it."""
    if row.file is None:
        raise CompressFailed(f"{row.name} did not come from a GGUF file, so llama.cpp cannot serve the result")
    path = out / f"{out.name}-q8_0.gguf"
    if not path.exists():
        like = model_store(settings).path(row.file)
        asked = {"source": str(out), "like": str(like), "result": str(path)}
        do(settings, "as_gguf", asked, "convert", "gguf")
    return gguf_row(out.name, path, row)


async def _lesson(
    settings: Settings, subject: Subject, policy: Policy, data: Path | None, teacher: str | None, write: int, seed: int
) -> Lesson:
    given = given_texts(data) if data is not None else []
    if not write and all(answer is not None for _, answer in given):
        return await lesson(subject, given, None, 0, lambda: None)
    catalog = served_catalog(settings)
    row = catalog.only((teacher,)).models[teacher] if teacher else catalog.safe
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(started(settings, row))
        bar = stack.enter_context(count_bar())
        asked = 2 * write + sum(answer is None for _, answer in given)
        task = bar.add_task(f"{row.name} teaches", total=asked)
        tell: Callable[[], None] = lambda: bar.advance(task)  # noqa: E731
        return await lesson(
            subject, given, Teacher(subject, of_engine(engine, row), _tier(settings, row, policy), seed), write, tell
        )


def _tier(settings: Settings, row: Model, policy: Policy) -> str:
    """In whose words the teacher is told: the safe tier's, where it is none of those that are served."""
    places = lineup_of(settings).places(policy)
    return next((place.tier for place in places if place.model == row.name), places[-1].tier)


async def _exams(settings: Settings, subject: Subject, rows: list[Model]) -> list[Exam]:
    held_out = subject.suite.only(Split.HELD_OUT)
    return [await sat(settings, row, subject, held_out) for row in rows]


def _show_lesson(learnt: Lesson) -> None:
    origins = ", ".join(f"{count} {origin}" for origin, count in learnt.origins.items())
    console.print(f"to learn from: {origins}; to choose by: {len(learnt.validation)}", highlight=False, soft_wrap=True)
    if learnt.left_out:
        why = ", ".join(f"{count} {reason}" for reason, count in learnt.left_out.items())
        console.print(f"left out: {why}", highlight=False, soft_wrap=True)


def _show_exams(exams: list[Exam]) -> None:
    shown = table("model", "held out.", "95 % interval.", "proven.", "seconds.")
    for exam in exams:
        shown.add_row(*exam.cells)
    console.print()
    console.print(shown)
