"""pointsman import: take over the configuration of another gateway."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.screen import problems
from gateway.from_litellm import translate
from gateway.settings import CONFIG_FILE, SettingsError
from prompts.yamlfile import YamlError, read_yaml

app = typer.Typer(help="Turn another gateway's configuration into a pointsman.yaml.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Turn another gateway's configuration into a pointsman.yaml."""


@app.command()
def litellm(
    config: Annotated[Path, typer.Argument(help="LiteLLM's config.yaml")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="the file to write; standard output when not given")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="write over a file that is there")] = False,
) -> None:
    """Turn a LiteLLM proxy's configuration into ours; every key that is not carried is named, with why.

    Keys and passwords are not copied: they become names of environment variables.
    """
    if output and output.exists() and not force:
        raise SettingsError(f"{output} is there already; --force writes over it")
    try:
        file = read_yaml(config, variables=None)
        imported = translate(file)
    except OSError as error:
        raise SettingsError(f"{config}: cannot be read: {error.strerror}") from error
    except YamlError as error:
        raise SettingsError(str(error)) from error
    if output:
        output.write_text(imported.text, encoding="utf-8")
    else:
        typer.echo(imported.text, nl=False)
    if imported.dropped:
        _say("[yellow]Not carried, or not as it was:[/]")
        _say(escape(file.tell_all(list(imported.dropped))))
    _say(f"Models: {escape(', '.join(imported.models) or 'none; the built-in ones are served')}")
    if missing := [name for name in imported.variables if not os.environ.get(name)]:
        _say(f"Set in the environment: {', '.join(missing)}")
    _say(f"Next: pointsman keys create NAME; pointsman check --config {escape(str(output or CONFIG_FILE))}")


def _say(text: str) -> None:
    problems.print(text, highlight=False, soft_wrap=True)
