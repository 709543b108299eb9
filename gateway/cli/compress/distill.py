"""pointsman models distill: a small model learns one prompt of the safe tier, and is examined on cases it never saw."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.builder import model_store
from gateway.cli.compress.cards import write_json
from gateway.cli.compress.consented import consented
from gateway.cli.compress.exam import Exam, sat
from gateway.cli.compress.kept import keep
from gateway.cli.compress.lesson import Lesson, Subject, Teacher, given_texts, lesson, remembering
from gateway.cli.compress.made import put
from gateway.cli.compress.rows import BESIDE, checkpoint_row, gguf_row, name_of
from gateway.cli.compress.running import CompressFailed, Out, do
from gateway.cli.compress.sources import named
from gateway.cli.engines import started
from gateway.cli.prompts.answers import answers_path, kept_answers
from gateway.cli.prompts.asking import of_engine
from gateway.cli.prompts.place import Dir, folder_at, prompt_in, suite_of
from gateway.cli.prompts.tiers import lineup_of
from gateway.cli.screen import console, count_bar, table
from gateway.ledger.database import open_database
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Model, load_catalog
from prompts.canonical import digest
from prompts.promptfile import Policy
from prompts.suite import Case, Split

HELP = """Teach a small model one prompt: it learns to answer as the safe tier does, and is examined on held-out cases.

It learns from the suite's train cases that say their answer, from --data (JSON lines of vars, with or without an
answer) and, with --write N, from texts that the teacher writes. What has no answer is answered by the teacher, which
is shown train cases. The validation cases choose when to stop; the held-out cases are seen by nobody before the end.
--from-responses adds answers of the teacher that are kept (/v1/responses) and whose callers gave them for this, with
metadata {"pointsman_teach": "yes"}.

A low-rank update of every matrix is learnt and merged, so that the result is an ordinary checkpoint, and a GGUF file
where the student came from one. It appears when it is whole; an interrupted run goes on where it was. Some 80 examples
take a 135M model five minutes on one core, and 3 GB.

The result is a specialist: serve it as a row of its own (row.yaml), and it gets the requests of this prompt once its
suite's receipt holds the bar: pointsman prompts test. The row names the cases that it has learnt or was chosen by, and
they count for nothing: the held-out ones do. Of other prompts it has proved nothing and gets none.

Examples:

pointsman models distill smollm2-135m-instruct-q4_1 --prompt tenants --dir prompts/examples --out builds/tenants

pointsman models distill smollm2-135m-instruct-q4_1 --prompt tenants --write 100 --out builds/tenants
"""

LESSON, ASKED = "lesson.jsonl", "asked.draft"


def distill(
    student: Annotated[str, typer.Argument(help="the model to teach: a row of the catalogue", metavar="ROW")],
    prompt: Annotated[str, typer.Option("--prompt", help="the prompt to learn, as support/triage")],
    out: Out,
    directory: Dir = None,
    data: Annotated[
        Path | None, typer.Option(help="more texts: JSON lines of vars", exists=True, dir_okay=False)
    ] = None,
    from_responses: Annotated[
        bool, typer.Option("--from-responses", help="kept answers of the teacher that callers gave for this")
    ] = False,
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
    if out.exists():
        raise CompressFailed(f"{out} is there already; nothing was written. Name another with --out, or remove it")
    settings = load_settings()
    folder = folder_at(directory)
    found = prompt_in(folder, prompt)
    subject = Subject(found.template, tier, suite_of(folder, found))
    row = load_catalog(settings.catalog).only((student,)).models[student]
    given = given_texts(data) if data is not None else []
    guide = _guide(settings, folder.policy, teacher)
    if from_responses:
        given += _consented(settings, subject, guide.row)
    learnt = asyncio.run(_lesson(settings, subject, given, guide, write, seed))
    _show_lesson(learnt)
    teaching = {"epochs": epochs, "rank": rank, "rate": rate, "seed": seed}
    draft, result = taught(settings, row, learnt, teaching, out)
    exams = asyncio.run(_exams(settings, subject, [row, as_row(settings, row, draft, out)]))
    (draft / LESSON).write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in learnt.examples))
    (draft / ASKED).unlink()
    os.rename(draft, out)
    made = as_row(settings, row, out, out).model_copy(update={"taught": learnt.marks})
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
    says = f"\n{out}: its row for a catalogue or the settings file is in {BESIDE}"
    console.print(says, highlight=False, soft_wrap=True)


def taught_facts(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("examples", "trained_parameters", "steps", "kept_step")}


def taught(
    settings: Settings, row: Model, learnt: Lesson, teaching: dict[str, Any], out: Path
) -> tuple[Path, dict[str, Any]]:
    """The pupil, in a folder beside *out* that takes its name once all is there, and what came of it. One that an
    interrupted command has taught the same is taken as it is.
    """
    draft = out.resolve().with_name(f".{out.name}.making")
    job = {
        "source": str(named(settings, row.name).folder),
        "result": str(draft),
        "examples": list(learnt.examples),
        "validation": list(learnt.validation),
        "teaching": teaching,
    }
    asked = digest(job)
    if (draft / ASKED).is_file():
        done = orjson.loads((draft / ASKED).read_bytes())
        if done["asked"] == asked:
            return draft, done["result"]
    shutil.rmtree(draft, ignore_errors=True)
    result = do(settings, "distill", job, "teach", "peft")
    write_json(draft / ASKED, {"asked": asked, "result": result})
    return draft, result


def as_row(settings: Settings, row: Model, folder: Path, out: Path) -> Model:
    """The pupil in *folder*, which is *out* or will be: by llama.cpp where the student is a GGUF file, else by vLLM."""
    if row.file is None:
        return checkpoint_row(folder, row, "vllm", name_of(out))
    path = folder / f"{name_of(out)}-q8_0.gguf"
    if not path.exists():
        like = model_store(settings).path(row.file)
        asked = {"source": str(folder), "like": str(like), "result": str(path)}
        do(settings, "as_gguf", asked, "convert", "gguf")
    return gguf_row(name_of(out), path, row)


@dataclass(frozen=True, slots=True)
class Guide:
    """Who teaches, and in whose words it is told."""

    row: Model
    tier: str


def _guide(settings: Settings, policy: Policy, named_row: str | None) -> Guide:
    catalog = served_catalog(settings)
    row = load_catalog(settings.catalog).only((named_row,)).models[named_row] if named_row else catalog.safe
    places = lineup_of(settings).places(policy)
    return Guide(row, next((place.tier for place in places if place.model == row.name), places[-1].tier))


def _consented(settings: Settings, subject: Subject, teacher: Model) -> list[tuple[Case, str | None]]:
    database = open_database(settings.database)
    try:
        return consented(database, subject.template.id, teacher.name, datetime.now(UTC))
    finally:
        database.dispose()


async def _lesson(
    settings: Settings, subject: Subject, given: Sequence[tuple[Case, str | None]], guide: Guide, write: int, seed: int
) -> Lesson:
    """The teacher's engine is started where somebody must answer."""
    unanswered = sum(answer is None for _, answer in given)
    if not write and not unanswered:
        return await lesson(subject, given, None, 0, lambda: None)
    async with AsyncExitStack() as stack:
        kept = stack.enter_context(kept_answers(answers_path(settings.data_dir)))
        engine = await stack.enter_async_context(started(settings, guide.row))
        bar = stack.enter_context(count_bar())
        total = 2 * write + unanswered  # a text that is not taken is written anew, so it may become more
        task = bar.add_task(f"{guide.row.name} teaches", total=total)

        def tell() -> None:
            bar.advance(task)
            bar.update(task, total=max(total, bar.tasks[task].completed))

        ask = remembering(of_engine(engine, guide.row), kept, guide.row.build)
        teacher = Teacher(subject, ask, guide.tier, seed)
        return await lesson(subject, given, teacher, write, tell)


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
