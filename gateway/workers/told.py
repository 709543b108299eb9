"""What the processes tell each other: settings, rows of the catalogue, and how engines are. No I/O here."""

from dataclasses import asdict
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import EngineState, Health
from models.process import Place


class ToldSettings(Settings):
    """Settings from another process: this one's own variables and files say nothing."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def written(settings: Settings, catalog: Catalog) -> str:
    """*settings* with the rows that they serve, so that nobody has to read a catalogue's file again, which may have
    changed meanwhile. JSON.
    """
    whole = {"rows": tuple(catalog), "models": tuple(catalog.models), "aliases": dict(catalog.aliases)}
    return settings.model_copy(update=whole).model_dump_json()


def read(text: str) -> Settings:
    return ToldSettings.model_validate_json(text)


def engine_written(health: Health, place: Place | None) -> dict[str, Any]:
    return {"health": asdict(health), "place": None if place is None else asdict(place)}


def engine_read(told: dict[str, Any]) -> tuple[Health, Place | None]:
    health, place = told["health"], told["place"]
    state = EngineState(health["state"])
    return Health(state, health["detail"], health["restarts"]), None if place is None else Place(**place)
