"""pointsman check: would `pointsman serve` work here? Reads everything it would read and starts nothing."""

import sys
from collections.abc import Callable

from rich.markup import escape

from gateway.app import load_knowledge_for, model_store, served_catalog
from gateway.cli.screen import console
from gateway.ledger.database import DatabaseError, open_database
from gateway.settings import Settings, SettingsError, load_settings
from models.catalog import CatalogError

Checked = Callable[[Settings], str]


def check() -> None:
    """Check settings, catalogue, weights, evidence and database before a start; exit status 1 if anything is wrong."""
    try:
        settings = load_settings()
    except SettingsError as error:
        _show(False, "settings", str(error))
        sys.exit(1)
    _show(True, "settings", "every POINTSMAN_* value is valid")
    steps: dict[str, Checked] = {
        "catalogue": _catalogue,
        "weights": _weights,
        "evidence": _evidence,
        "database": _database,
    }
    fine = [_passes(name, step, settings) for name, step in steps.items()]
    sys.exit(0 if all(fine) else 1)


def _passes(name: str, step: Checked, settings: Settings) -> bool:
    try:
        _show(True, name, step(settings))
    except (CatalogError, DatabaseError, OSError, ValueError) as error:
        _show(False, name, str(error))
        return False
    return True


def _catalogue(settings: Settings) -> str:
    return f"serves {', '.join(m.name for m in served_catalog(settings))}"


def _weights(settings: Settings) -> str:
    store = model_store(settings)
    missing = [m.name for m in served_catalog(settings) if m.file is not None and not store.has(m.file)]
    if missing:
        raise ValueError(f"not here: {', '.join(missing)}; fetch with: pointsman models pull")
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


def _show(fine: bool, name: str, text: str) -> None:
    mark = "[green]ok  [/]" if fine else "[bold red]fail[/]"
    console.print(f"{mark} {name:<10} {escape(text)}", highlight=False, soft_wrap=True)
