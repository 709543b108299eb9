"""Variables as they are typed: `--var name=value`, or a file of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.prompts.place import PromptsFailed, told
from prompts.canonical import not_json
from prompts.plainyaml import parse_plain

Var = Annotated[
    list[str] | None,
    typer.Option("--var", help="a variable as name=text, or name=@FILE for a file's text; may be repeated"),
]
Vars = Annotated[
    Path | None,
    typer.Option("--vars", help="variables from a file, YAML or JSON; --var goes over them", metavar="FILE"),
]


def variables(pairs: Sequence[str] | None, file: Path | None) -> dict[str, Any]:
    """Raises PromptsFailed."""
    values = {} if file is None else _read(file)
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise PromptsFailed(f"--var {pair}: write name=value")
        with told():
            values[name] = Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
    return values


def _read(path: Path) -> dict[str, Any]:
    with told():
        value = parse_plain(path, path.read_text(encoding="utf-8")).value
    if not isinstance(value, dict):
        raise PromptsFailed(f"{path}: holds no variables; write name: value, a line for each")
    if problem := not_json(value):
        raise PromptsFailed(f"{path}: {'.'.join(map(str, problem.loc))}: {problem.remedy}")
    return value
