"""Every setting, from `POINTSMAN_*` in the environment. Parsed once at start-up; a wrong value is refused by name."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.catalog import BUILTIN_CATALOG
from router.bar import parse_bar

MEBIBYTE = 1024 * 1024


class SettingsError(ValueError):
    """A setting is wrong; the message names it as the operator wrote it."""


class Settings(BaseSettings):
    """The field's description is its line in the README; a test compares them."""

    # An empty variable is an unset one: as a host it would mean every address, as a folder the current one.
    model_config = SettingsConfigDict(env_prefix="POINTSMAN_", env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=1, le=65535, description="port to listen on")
    data_dir: Path = Field(
        Path(platformdirs.user_data_dir("pointsman")), description="ledger, key pepper and engine logs"
    )
    cache_dir: Path = Field(Path(platformdirs.user_cache_dir("pointsman")), description="model weights")
    catalog: Path = Field(BUILTIN_CATALOG, description="the catalogue of models (YAML)")
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        ("qwen2.5-coder-0.5b-instruct-q4_k_m", "qwen2.5-coder-1.5b-instruct-q4_k_m"),
        min_length=1,
        description="names of the catalogue's models to serve, with commas; `all` for every one",
    )
    database_url: str | None = Field(None, description="the ledger's database; a SQLite file in data_dir when unset")
    strategy: Literal["evidence", "safe", "cheapest"] = Field("evidence", description="how `auto` chooses")
    bar: str = Field(
        "safe-0.1",
        description="what a cheaper model must hold: a margin under the safe tier (`safe-0.1`) or a pass-rate (`0.9`)",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence with which it must hold it")
    open_loopback: bool = Field(False, description="serve callers on this machine without a key")
    body_limit_bytes: int = Field(8 * MEBIBYTE, ge=1024, description="largest request body")
    file_limit_bytes: int = Field(100 * MEBIBYTE, ge=1024, description="largest file of /v1/files")
    batch_parallel: int = Field(2, ge=1, description="requests of batches that are answered at a time")
    machine_hour_usd: Decimal = Field(
        Decimal("0.10"),
        ge=0,
        description="price of an hour of this machine, for models that have no price of their own",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line written")
    keepalive_seconds: float = Field(
        15, gt=0, description="a stream on which nothing was written for so long gets a comment line"
    )
    response_retention_days: int = Field(
        30, ge=1, description="how long a response of /v1/responses can be gone on from"
    )
    shutdown_seconds: int = Field(10, ge=0, description="time that running answers get to finish on shutdown")

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'pointsman.db'}"

    @field_validator("bar")
    @classmethod
    def _bar(cls, value: str) -> str:
        parse_bar(value, confidence=0.5)
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


def load_settings(**overrides: object) -> Settings:
    """Raises SettingsError naming the variable, what it holds and what it should."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic, at run time
    except ValidationError as error:
        first = error.errors()[0]
        name = f"POINTSMAN_{'_'.join(str(part) for part in first['loc']).upper()}"
        raise SettingsError(f"{name}={first['input']!r}: {first['msg']}") from error
