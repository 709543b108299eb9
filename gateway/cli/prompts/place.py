"""Where the prompts are: the folder that a command works on, and one prompt in it. What cannot be read is one error."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.failed import CommandFailed
from gateway.settings import load_settings
from prompts.folder import LIBRARY, Folder, Prompt, load
from prompts.library import PromptNotFound
from prompts.reading import LoadRefused
from prompts.reference import ReferenceRefused
from prompts.render import MessagesRefused, RenderFailed
from prompts.suite import Case, Suite
from prompts.suite_file import SuiteError, load_suite
from prompts.variables import VariablesRefused
from prompts.yamlfile import YamlError

SHOWN_CASES = 10
USUAL = (Path(), Path("prompts"))
TOLD = (
    LoadRefused,
    MessagesRefused,
    OSError,
    PromptNotFound,
    ReferenceRefused,
    RenderFailed,
    SuiteError,
    VariablesRefused,
    YamlError,
)

Dir = Annotated[
    Path | None,
    typer.Option("--dir", help="the folder; else . or ./prompts, where library.yaml is, or that of the settings"),
]
PromptId = Annotated[str, typer.Argument(help="the prompt, by its folder's name: support/triage", metavar="ID")]


class PromptsFailed(CommandFailed):
    """A command about prompts cannot do what it was asked; the message says why, and what to do."""


@contextmanager
def told() -> Iterator[None]:
    """What reading and rendering prompts raises, as one message."""
    try:
        yield
    except OSError as error:
        raise PromptsFailed(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    except TOLD as error:
        raise PromptsFailed(str(error)) from error


def folder_at(given: Path | None) -> Folder:
    """The folder *given*, else the usual one. Raises PromptsFailed with all that is wrong in it."""
    with told():
        return load(path_of(given))


def path_of(given: Path | None) -> Path:
    if given is not None:
        if not given.is_dir():
            raise PromptsFailed(f"{given} is no folder; make one with: pointsman prompts init {given}")
        return given
    found = next((path for path in USUAL if (path / LIBRARY).is_file()), None) or load_settings().prompts.folder
    if found is None:
        raise PromptsFailed(
            f"there is no {LIBRARY} here nor in ./prompts; make a folder with: pointsman prompts init prompts, "
            "or say where it is: --dir"
        )
    return found


def prompt_in(folder: Folder, prompt_id: str) -> Prompt:
    if prompt_id in folder.prompts:
        return folder.prompts[prompt_id]
    near = difflib.get_close_matches(prompt_id, sorted(folder.prompts), n=1)
    there = ", ".join(sorted(folder.prompts)) or "none yet; make one with: pointsman prompts new ID"
    hint = f"did you mean {near[0]}?" if near else f"there are: {there}"
    raise PromptsFailed(f"{folder.path} has no prompt {prompt_id!r}; {hint}")


def suite_of(folder: Folder, prompt: Prompt) -> Suite:
    with told():
        return load_suite(home_of(prompt), folder.policy.tiers or None)


def case_of(suite: Suite, case_id: str) -> Case:
    """The case with that id, or whose id alone begins so. Raises PromptsFailed."""
    found = [case for case in suite.cases if case.id == case_id]
    found = found or [case for case in suite.cases if case.id.startswith(case_id)]
    if len(found) != 1:
        there = ", ".join(case.id for case in (found or suite.cases)[:SHOWN_CASES])
        more = ", ..." if len(found or suite.cases) > SHOWN_CASES else ""
        raise PromptsFailed(
            f"there is {'no' if not found else 'more than one'} case {case_id}; there are: {there}{more}"
        )
    return found[0]


def home_of(prompt: Prompt) -> Path:
    return prompt.documents["base"].file.path.parent


def written(files: Mapping[Path, str], *, over: bool = False) -> None:
    """Write all *files*, or none where one is there already. Raises PromptsFailed."""
    there = [path for path in files if path.exists()]
    if there and not over:
        raise PromptsFailed(f"{there[0]} is there already; nothing was written. Take another name, or remove it first")
    with told():
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
