"""The example of a settings file: it loads, it shows every setting, and editors are told the truth about it."""

import re
from pathlib import Path

import pytest

from gateway.cli.config import schema_text
from gateway.reload import NEED_RESTART
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from gateway.settings_file import NOT_IN_FILE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "pointsman.example.yaml"
SCHEMA = ROOT / "docs" / "pointsman.schema.json"
OWN = ("models", "aliases")  # what the example sets to something of its own
SHOWN = [name for name in Settings.model_fields if name not in NOT_IN_FILE]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"POINTSMAN_{name.upper()}", raising=False)


def test_the_schema_is_that_of_the_settings() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text() + "\n", (
        "write it anew: pointsman config schema > docs/pointsman.schema.json"
    )


def test_the_example_names_the_schema_for_editors() -> None:
    named = EXAMPLE.read_text(encoding="utf-8").splitlines()[0].partition("# yaml-language-server: $schema=")[2]
    assert (EXAMPLE.parent / named).resolve() == SCHEMA


def test_the_example_loads_and_can_be_served() -> None:
    assert list(served_catalog(load_settings(config=EXAMPLE)).models) == ["qwen2.5-coder-0.5b-instruct-q4_k_m", "large"]


def test_what_the_example_comments_out_loads_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///other.db")
    monkeypatch.setenv("REDIS_URL", "redis://cache:6379")
    path = tmp_path / "pointsman.yaml"
    text = EXAMPLE.read_text(encoding="utf-8")
    path.write_text(re.sub(rf"^# ({'|'.join(SHOWN)}): ", r"\1: ", text, flags=re.MULTILINE), encoding="utf-8")
    settings = load_settings(config=path)
    assert {*SHOWN} <= settings.model_fields_set
    assert (settings.database_url, settings.redis_url) == ("sqlite:///other.db", "redis://cache:6379")
    assert settings.catalog == tmp_path / "catalog.yaml"


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_shows_every_setting_with_a_comment(name: str) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    [place] = [place for place, line in enumerate(lines) if re.match(rf"(# )?{name}:", line)]
    assert lines[place - 1].startswith("# ")
    is_for_restart = lines[place - 1].endswith("(restart)")
    assert is_for_restart == (name in NEED_RESTART)


@pytest.mark.parametrize(
    "name", [n for n in SHOWN if n not in ("models", "aliases", "data_dir", "cache_dir", "catalog")]
)
def test_what_the_example_sets_without_need_is_the_default(name: str) -> None:
    assert getattr(load_settings(config=EXAMPLE), name) == Settings.model_fields[name].default
