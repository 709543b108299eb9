"""pointsman config: the file of settings, what editors are told about it, and the option that says which it is."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from gateway.settings import CONFIG_VARIABLE, Settings
from gateway.settings_file import NOT_IN_FILE

app = typer.Typer(help="Describe the file of settings, pointsman.yaml.", no_args_is_help=True)

_HAS_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}
_LEAVES = frozenset({"string", "integer", "number", "boolean"})


def _choose(path: Path | None) -> Path | None:
    """The option is the variable: every part of the command, and every process it starts, reads the same file."""
    if path is not None:
        os.environ[CONFIG_VARIABLE] = str(path)
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_choose,
        help="the file of settings; POINTSMAN_CONFIG when not given, else ./pointsman.yaml where there is one",
    ),
]


def chosen(config: ConfigOption = None) -> None:
    """What every command takes before its name: pointsman --config FILE route TEXT."""


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors.

    The first line of a file names it: # yaml-language-server: $schema=pointsman.schema.json
    """
    typer.echo(schema_text())


def schema_text(kind: type[BaseModel] = Settings) -> str:
    """The schema of the file that holds *kind*: rows stand under `models`, and any value may be a variable's."""
    made: dict[str, Any] = kind.model_json_schema()
    properties = made["properties"]
    names, rows = properties["models"], properties["rows"]
    for key in NOT_IN_FILE:
        properties.pop(key, None)
    properties["models"] = {
        "title": names["title"],
        "description": f"{names['description']}; or rows of your own",
        "default": names["default"],
        "anyOf": [{"type": "string"}, {**_without(names), "items": {"anyOf": [{"type": "string"}, rows["items"]]}}],
    }
    made.update(title="pointsman.yaml", description="Settings of the Pointsman gateway; variables override them.")
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(_open(made), indent=2, sort_keys=True)


def _without(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("title", "description", "default")}


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """Let `${NAME}` stand where a value is not any string anyway; leave out defaults that are of this machine."""
    opened = dict(schema)
    for key in ("properties", "$defs"):
        if key in schema:
            opened[key] = {name: _open(part) for name, part in schema[key].items()}
    for key in ("anyOf", "oneOf"):
        if key in schema:
            opened[key] = [_open(part) for part in schema[key]]
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            opened[key] = _open(schema[key])
    if any(part.get("format") == "path" for part in (schema, *schema.get("anyOf", ()))):
        opened.pop("default", None)
    if schema.get("type") in _LEAVES and (schema["type"] != "string" or {"pattern", "enum", "const"} & schema.keys()):
        about: dict[str, Any] = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        return {**about, "anyOf": [_without(schema), _HAS_VARIABLE]}
    return opened
