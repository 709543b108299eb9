"""Every setting: a variable `POINTSMAN_*`, else a key of pointsman.yaml, else its default. Every wrong value is
refused, by the variable's name or by file and line.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import platformdirs
import pydantic_settings
from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

from gateway.cache.section import CacheSection
from gateway.guardrails.kinds import RailSettings
from gateway.learning.section import LearningSection
from gateway.library.section import PromptsSection
from gateway.settings_file import NO_FILE, FileSettings, read_settings_file
from gateway.tracing.section import TracingSection
from models.catalog import BUILTIN_CATALOG, Model, row_problems
from prompts.yamlfile import Loc, Problem, YamlError, one_line, problems_in, read_yaml, shown
from router.bar import parse_bar
from router.outcomes import FIRST_TOKENS

PREFIX = "POINTSMAN_"
NESTING = "__"  # between a section and its key, in a variable's name
CONFIG_VARIABLE = "POINTSMAN_CONFIG"
CONFIG_FILE = Path("pointsman.yaml")
MEBIBYTE = 1024 * 1024
MOST_WORKERS = 256  # more than any one machine needs; a slip of the keyboard does not fork a thousand

SomeSettings = TypeVar("SomeSettings", bound="Settings")


class SettingsError(ValueError):
    """A setting is wrong; the message names it as the operator wrote it."""


class Settings(BaseSettings):
    """The field's description is its line in the README; a test compares them. A section is a field of a `Section`."""

    # An empty variable is an unset one: as a host it would mean every address, as a folder the current one.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTING, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    config: Path | None = Field(None, description="the file of settings (YAML); variables override what it says")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=1, le=65535, description="port to listen on")
    data_dir: Path = Field(
        Path(platformdirs.user_data_dir("pointsman")), description="ledger, key pepper and engine logs"
    )
    cache_dir: Path = Field(Path(platformdirs.user_cache_dir("pointsman")), description="model weights")
    torch_python: Path | None = Field(
        None,
        description="the Python that runs what needs torch (`make torch` makes one); the gateway's own when unset",
    )
    catalog: Path = Field(BUILTIN_CATALOG, description="the catalogue of models (YAML)")
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        ("qwen2.5-coder-0.5b-instruct-q4_k_m", "qwen2.5-coder-1.5b-instruct-q4_k_m", "wordllama-l2-256"),
        min_length=1,
        description="names of the catalogue's models to serve, with commas; `all` for every one",
    )
    rows: tuple[Model, ...] = Field((), description="the catalogue's rows that the file holds under `models:`")
    aliases: Annotated[dict[str, str] | None, NoDecode] = Field(
        None,
        description="names that applications hard-code, as `name=model` with commas; those of the catalogue when unset",
    )
    database_url: str | None = Field(None, description="the ledger's database; a SQLite file in data_dir when unset")
    strategy: Literal["evidence", "safe", "cheapest"] = Field("evidence", description="how `auto` chooses")
    bar: str = Field(
        "safe-0.1",
        description="what a cheaper model must hold: a margin under the safe tier (`safe-0.1`) or a pass-rate (`0.9`)",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence with which it must hold it")
    hold_tokens: int = Field(
        FIRST_TOKENS,
        ge=1,
        description="tokens of a streamed answer that are held back to be looked at before they are released",
    )
    hold_seconds: float = Field(
        10,
        gt=0,
        allow_inf_nan=False,
        description="how long an answer is held back; the safe tier answers when it is not whole by then",
    )
    keep_decisions: bool = Field(
        True, description="write into the ledger what each decision of `auto` was made from, about 1 KB"
    )
    open_loopback: bool = Field(False, description="serve callers on this machine without a key")
    body_limit_bytes: int = Field(8 * MEBIBYTE, ge=1024, description="largest request body")
    file_limit_bytes: int = Field(100 * MEBIBYTE, ge=1024, description="largest file of /v1/files")
    batch_parallel: int = Field(2, ge=1, description="requests of batches that are answered at a time")
    machine_hour_usd: Decimal = Field(
        Decimal("0.10"),
        ge=0,
        description="price of an hour of this machine, for models that have no price of their own",
    )
    wait_second_usd: Decimal = Field(
        Decimal(0),
        ge=0,
        description="what a second is worth that a request waits for a place; a model with a queue is dearer by it",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line written")
    keepalive_seconds: float = Field(
        15,
        gt=0,
        allow_inf_nan=False,
        description="a stream on which nothing was written for so long gets a comment line",
    )
    response_retention_days: int = Field(
        30, ge=1, description="how long a response of /v1/responses can be gone on from"
    )
    shutdown_seconds: int = Field(10, ge=0, description="time that running answers get to finish on shutdown")
    workers: int = Field(1, ge=1, le=MOST_WORKERS, description="processes that serve, each with an event loop")
    clamp_to_budget: bool = Field(
        False, description="answer shorter what would not fit a budget, instead of refusing it"
    )
    shared_limits: bool = Field(
        False, description="count limits in the database, for gateways on several machines that have no Redis"
    )
    redis_url: str | None = Field(
        None,
        pattern=r"^(redis|rediss|unix)://",
        description="Redis or Valkey that several gateways share limits in; in this process alone when unset",
    )

    learning: LearningSection = LearningSection()
    cache: CacheSection = CacheSection()
    prompts: PromptsSection = PromptsSection()
    tracing: TracingSection = TracingSection()
    guardrails: tuple[RailSettings, ...] = Field(
        (), description="what may not be asked or answered, in the order it is looked for: kinds blocklist and pii"
    )

    @property
    def limits_place(self) -> str:
        """Where limits are counted; see `gateway.limits.stores`."""
        return self.redis_url or ("database" if self.shared_limits else "memory")

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'pointsman.db'}"

    @property
    def database_shown(self) -> str:
        """Without a password."""
        return self.database.split("@")[-1]

    @field_validator("bar")
    @classmethod
    def _bar(cls, value: str) -> str:
        parse_bar(value, confidence=0.5)
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("aliases", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if wrong := [alias for alias, sign, _ in pairs if not sign]:
            raise ValueError(f"{wrong[0].strip()} is no alias; write name=model, with commas between")
        return {alias.strip(): target.strip() for alias, _, target in pairs}


def load_settings(**overrides: object) -> Settings:
    """Raises SettingsError with a line for every mistake: where it stands, what it holds and the remedy."""
    return load(Settings, **overrides)


def load(kind: type[SomeSettings], **overrides: object) -> SomeSettings:
    """As `load_settings`, for settings with more sections than these."""
    path = find_config(overrides.get("config"))
    file = _read(path, kind) if path else NO_FILE
    try:
        variables = EnvSettingsSource(kind)()
        values = _over(_over(file.values, variables), overrides)
        settings = kind(**{**values, "config": path})
    except ValidationError as error:
        raise SettingsError(_told(file.problems + problems_in(kind, error), file, overrides)) from error
    except pydantic_settings.SettingsError as error:
        raise SettingsError(f"POINTSMAN_*: {error}; a section as one variable is a JSON object") from error
    problems = file.problems + [replace(p, loc=("rows", *p.loc[1:])) for p in row_problems(settings.rows)]
    if problems:
        raise SettingsError(_told(problems, file, overrides))
    return settings


def find_config(given: object = None) -> Path | None:
    """The file to read: the one *given*, else POINTSMAN_CONFIG, else ./pointsman.yaml where there is one."""
    named = given or os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(str(named)).expanduser()
    return CONFIG_FILE if CONFIG_FILE.exists() else None


def _read(path: Path, kind: type[BaseModel]) -> FileSettings:
    try:
        return read_settings_file(path, kind)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file; set {CONFIG_VARIABLE} to one of settings, or unset it") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except YamlError as error:
        raise SettingsError(str(error)) from error


def told(settings: Settings, problem: Problem) -> str:
    """Where *problem* stands, in the file that the settings came from or in a variable, and the remedy."""
    variable = _variable(problem.loc[:1])
    document = read_yaml(settings.config) if settings.config else None
    if document and document.has(problem.loc[:1]) and not os.environ.get(variable):
        return document.tell(problem)
    return f"{variable}: {problem.remedy}"


def _over(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """*low* with *high* laid over it, section by section."""
    merged = dict(low)
    for name, value in high.items():
        under = merged.get(name)
        merged[name] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _told(problems: list[Problem], file: FileSettings, overrides: Mapping[str, object]) -> str:
    """A line for each: those of variables, then those of the file as they follow each other in it."""
    elsewhere, in_file = [], []
    for problem in problems:
        written = file.as_written(problem)
        if file.document is None or _said(problem.loc, overrides) or not file.document.has(written.loc[:1]):
            elsewhere.append(_tell_variable(problem, overrides))
        else:
            in_file.append(written)
    return "\n".join([*elsewhere, *([file.document.tell_all(in_file)] if file.document and in_file else [])])


def _tell_variable(problem: Problem, overrides: Mapping[str, object]) -> str:
    name, holds = _said(problem.loc, overrides) or (_variable(problem.loc), problem.holds)
    return one_line(f"{name}={holds}: {problem.remedy}" if holds is not None else f"{name}: {problem.remedy}")


def _said(loc: Loc, overrides: Mapping[str, object]) -> tuple[str, str] | None:
    """The variable that sets *loc*, or would set what a caller did, with what it holds; None where neither does."""
    if loc and loc[0] in overrides:
        return _variable(loc[:1]), shown(overrides[str(loc[0])])
    names = [_variable(loc[:length]) for length in range(len(loc), 0, -1)]
    return next(((name, shown(os.environ[name])) for name in names if os.environ.get(name)), None)


def _variable(loc: Loc) -> str:
    return PREFIX + NESTING.join(map(str, loc)).upper()
