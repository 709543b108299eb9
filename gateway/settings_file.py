"""The file of settings: what it says by the names of the settings. Knows its shape, not what the settings mean."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from prompts.yamlfile import Problem, YamlError, YamlFile, read_yaml

NOT_IN_FILE = {
    "config": "not permitted here: it is this file; say which with --config or POINTSMAN_CONFIG",
    "rows": "not permitted here: rows of the catalogue are written under `models:`",
}
_PASSWORD = "holds a password; put it into the environment, and its name in curly brackets here: ${NAME}"  # noqa: S105


@dataclass(frozen=True, slots=True)
class FileSettings:
    """A file's `values` by the names of `Settings`, and what is wrong with it that pydantic cannot see.

    `places`: for each of `rows`, its place under `models`, where names and rows may stand side by side.
    """

    document: YamlFile | None
    values: dict[str, Any]
    problems: list[Problem]
    places: Mapping[int, int]

    def as_written(self, problem: Problem) -> Problem:
        """With the key's path as it is in the file."""
        match problem.loc:
            case ("rows", int(place), *rest) if self.document:
                return replace(problem, loc=("models", self.places.get(place, place), *rest))
        return problem


NO_FILE = FileSettings(None, {}, [], {})


def read_settings_file(path: Path, kind: type[BaseModel]) -> FileSettings:
    """Read *path*, of which *kind* has the keys. Raises OSError, and YamlError for what holds no settings."""
    document = read_yaml(path)
    raw = {} if document.value is None else document.value
    if not isinstance(raw, dict):
        raise YamlError(f"{path}:1: must hold settings, one `name: value` a line")
    values = {str(key): value for key, value in raw.items() if key not in NOT_IN_FILE}
    problems = [Problem((key,), None, why) for key, why in NOT_IN_FILE.items() if key in raw]
    problems += [Problem((name,), None, _PASSWORD) for name in values if _has_password(document.text((name,)) or "")]
    places = _part_models(values)
    _anchor(kind, values, path.absolute().parent)
    return FileSettings(document, values, problems, places)


def _part_models(values: dict[str, Any]) -> dict[int, int]:
    """Take the rows out of `models`, which keeps their names. Returns the place in `models` of each row."""
    models = values.get("models")
    if not isinstance(models, list) or all(isinstance(entry, str) for entry in models):
        return {}
    places = [place for place, entry in enumerate(models) if not isinstance(entry, str)]
    values["rows"] = [models[place] for place in places]
    values["models"] = [str(entry.get("name")) if isinstance(entry, dict) else str(entry) for entry in models]
    return dict(enumerate(places))


def _anchor(kind: type[BaseModel], values: dict[str, Any], folder: Path) -> None:
    """A relative path in a file starts where the file is, wherever the gateway was started; `~` is the home folder."""
    for name, field in kind.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        value = values.get(name)
        if Path in kinds and isinstance(value, str):
            values[name] = folder / Path(value).expanduser()
        for section in _sections(field.annotation):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    _anchor(section, part, folder)


def _sections(kind: Any) -> Iterator[type[BaseModel]]:
    """Those in a type: itself, or what a tuple or a choice of them is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from _sections(part)


def _has_password(text: str) -> bool:
    return re.search(r"://[^/@:\s]*:(?!\$\{)[^/@\s]+@", text) is not None
