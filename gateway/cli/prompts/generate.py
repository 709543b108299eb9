"""pointsman prompts generate: a first draft of a prompt, its variables and its cases, from a task and examples."""

import asyncio
from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.cli.prompts.options import AsJson, Dir
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.ready import asked, models_of
from gateway.cli.screen import console, print_json, problems, table
from gateway.cli.whole import write_whole
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from prompts.files import case_lines, prompt_file
from prompts.folder import CASES, ENDING, TESTS
from prompts.library import tier_of
from prompts.scaffold import BAR, INSTRUCTION, BadExamples, Example, Scaffold, read_examples, request, scaffold

WRITING = {"temperature": 0, "max_tokens": 400}


def generate(
    task: Annotated[str, typer.Argument(help="what the prompt is to do, in words")],
    name: Annotated[str, typer.Option(help="the new prompt's, as support/triage")],
    examples: Annotated[
        Path, typer.Option(help='JSON lines: {"input": ..., "output": ...}', exists=True, dir_okay=False)
    ],
    dir: Dir = Path("prompts"),
    tier: Annotated[str | None, typer.Option(help="whose model writes; the safe one when none is given")] = None,
    model: Annotated[bool, typer.Option(help="let a model write the instruction; else the task stands there")] = True,
    write: Annotated[bool, typer.Option("--write", help="write the draft; else it is only shown")] = False,
    json: AsJson = False,
) -> None:
    """Draft a prompt: the instruction by a model, everything else inferred from examples. It says which is which."""
    try:
        given = read_examples(examples.read_text(encoding="utf-8"))
        draft = scaffold(name, task, given)
        if model:
            writer, instruction = asyncio.run(instructed(load_settings(), tier, task, given))
            draft = scaffold(name, task, given, instruction, writer)
    except (BadExamples, OSError, UnicodeDecodeError) as error:
        raise PromptsFailed(f"{examples}: {error}") from error
    files = files_of(draft)
    if json:
        print_json({"files": files, "origins": dict(draft.origins)})
    else:
        show(draft, files)
    if write:
        _write(dir, name, files)
        problems.print(f"Written to {dir / name}. It is a draft: read it, add cases, test it.", highlight=False)


async def instructed(settings: Settings, tier: str | None, task: str, examples: tuple[Example, ...]) -> tuple[str, str]:
    """Who wrote the instruction, and what. Empty where the model gave no answer."""
    catalog = served_catalog(settings)
    of = tier or tier_of(len(catalog.chatting) - 1, len(catalog.chatting))
    async with asked(settings, models_of(catalog, (), [of])) as on:
        message = {"role": "user", "content": request(task, examples)}
        answer = await on[of].ask([message], {**WRITING, "response_format": INSTRUCTION})
    try:
        said = orjson.loads(answer.text)["instruction"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = ""  # an answer that was cut, or none
    return on[of].model.name, said if isinstance(said, str) else ""


def files_of(draft: Scaffold) -> dict[str, str]:
    """By their names in the prompt's folder."""
    last = draft.template.id.rpartition("/")[2]
    about = "\n".join(["A draft by `pointsman prompts generate`:", *(f"- {p}: {o}" for p, o in draft.origins.items())])
    return {
        f"{last}{ENDING}": prompt_file(draft.template, about),
        TESTS: f"# The cases are in {CASES}; they are examples, so add some that are hard.\ngate: {{default: {BAR}}}\n",
        CASES: case_lines(draft.cases),
    }


def show(draft: Scaffold, files: dict[str, str]) -> None:
    shown = table("part", "where it is from")
    for part, origin in draft.origins.items():
        shown.add_row(part, origin)
    console.print(shown)
    for name, text in files.items():
        console.print(f"\n--- {name}", highlight=False)
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _write(folder: Path, name: str, files: dict[str, str]) -> None:
    """Raises PromptsFailed where the prompt is there already: a draft replaces nothing."""
    into = folder / name
    if into.exists():
        raise PromptsFailed(f"{into} is there already; choose another name, or take it away")
    into.mkdir(parents=True)
    for file, text in files.items():
        write_whole(into / file, text)
