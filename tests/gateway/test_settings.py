"""Settings: each has a variable, by whose name a wrong value is refused, and a line in the README."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.guardrails.blocklist import Blocklist
from gateway.guardrails.rail import Action
from gateway.section import Section
from gateway.served import served_catalog
from gateway.settings import Settings, SettingsError, load_settings
from models.catalog import CatalogError

README = Path(__file__).parents[2] / "README.md"

# setting -> a right value as written, what it means, wrong values
VALUES: dict[str, tuple[str, Any, list[str]]] = {
    "host": ("::", "::", []),
    "port": ("9000", 9000, ["0", "65536", "-1", "http", "80.5"]),
    "data_dir": ("/tmp/x", Path("/tmp/x"), []),  # noqa: S108  # never made
    "cache_dir": ("/tmp/x", Path("/tmp/x"), []),  # noqa: S108
    "torch_python": ("/x/bin/python", Path("/x/bin/python"), []),
    "catalog": ("/x.yaml", Path("/x.yaml"), []),
    "models": (" a, b ,", ("a", "b"), [",", " "]),
    "aliases": ("gpt-4o=auto, x = small,", {"gpt-4o": "auto", "x": "small"}, ["gpt-4o", "a=b,c"]),
    "database_url": ("sqlite:////x.db", "sqlite:////x.db", []),
    "strategy": ("safe", "safe", ["best", "Safe"]),
    "bar": ("0.9", "0.9", ["1", "0", "0.0", "safe", "safe-1", "-0.1", "90%", "nan"]),
    "confidence": ("0.99", 0.99, ["0.5", "1", "95", "nan", "high"]),
    "hold_tokens": ("16", 16, ["0", "-1", "some"]),
    "hold_seconds": ("2.5", 2.5, ["0", "-1", "inf", "nan", "soon"]),
    "keep_decisions": ("false", False, ["maybe", "2"]),
    "open_loopback": ("true", True, ["maybe", "2"]),
    "body_limit_bytes": ("2048", 2048, ["1023", "8MB", "-1"]),
    "file_limit_bytes": ("2048", 2048, ["1023", "100MB", "-1"]),
    "batch_parallel": ("4", 4, ["0", "many"]),
    "machine_hour_usd": ("0.25", Decimal("0.25"), ["-1", "NaN", "Infinity", "$1"]),
    "wait_second_usd": ("0.001", Decimal("0.001"), ["-1", "NaN", "Infinity", "$1"]),
    "log_level": ("debug", "debug", ["loud", "DEBUG"]),
    "keepalive_seconds": ("2.5", 2.5, ["0", "-1", "inf", "nan", "soon"]),
    "response_retention_days": ("7", 7, ["0", "-1", "forever"]),
    "shutdown_seconds": ("0", 0, ["-1", "soon"]),
    "workers": ("4", 4, ["0", "257", "many"]),
    "clamp_to_budget": ("true", True, ["maybe"]),
    "shared_limits": ("true", True, ["maybe"]),
    "redis_url": ("redis://h:6379/0", "redis://h:6379/0", ["h:6379", "http://h"]),
    "guardrails": (
        '[{"kind": "blocklist", "words": ["x"], "action": "refuse"}]',
        (Blocklist(kind="blocklist", words=("x",), action=Action.REFUSE),),
        ['[{"kind": "oracle"}]', '[{"kind": "blocklist"}]', '[{"kind": "pii", "entities": ["NAME"]}]'],
    ),
}


def leaves(kind: type[BaseModel], *path: str) -> Iterator[tuple[str, str | None]]:
    """The variable of every setting, those of sections too, and what it is."""
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, *path, name)
        elif name != "rows":
            yield "POINTSMAN_" + "__".join((*path, name)).upper(), field.description


SECTIONS = {
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
# The file itself, what only a file can say, and sections: tests/gateway/test_settings_file.py.
APART = {"config", "rows", *SECTIONS}
WRONG = [(name, wrong) for name, (_, _, values) in VALUES.items() for wrong in values]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def variable(name: str) -> str:
    return f"POINTSMAN_{name.upper()}"


def test_the_table_of_this_test_has_every_setting() -> None:
    assert list(VALUES) == [name for name in Settings.model_fields if name not in APART]


@pytest.mark.parametrize("name", VALUES)
def test_a_setting_is_read_from_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written, meant, _ = VALUES[name]
    monkeypatch.setenv(variable(name), written)
    assert getattr(load_settings(), name) == meant


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_wrong_value_is_refused_by_the_variables_name(name: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(name), wrong)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(f"{variable(name)}=")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", VALUES)
def test_an_empty_variable_is_an_unset_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files write VARIABLE= for what nobody set; an empty host would listen on every address."""
    default = load_settings()
    monkeypatch.setenv(variable(name), "")
    assert load_settings() == default


def test_a_model_that_is_not_in_the_catalogue_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_MODELS", "nobody")
    with pytest.raises(SettingsError, match=r"POINTSMAN_MODELS: no model nobody in the catalogue; it has: "):
        served_catalog(load_settings())


def test_a_catalogue_that_is_not_there_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_CATALOG", "/nowhere.yaml")
    with pytest.raises(CatalogError, match="POINTSMAN_CATALOG"):
        served_catalog(load_settings())


def test_the_database_is_a_file_among_the_data_unless_another_is_named(tmp_path: Path) -> None:
    assert load_settings(data_dir=tmp_path).database == f"sqlite:///{tmp_path}/pointsman.db"
    assert load_settings(data_dir=tmp_path, database_url="postgresql://h/d").database == "postgresql://h/d"


def test_the_defaults_serve_this_machine_only_and_ask_for_a_key() -> None:
    settings = load_settings()
    assert (settings.host, settings.open_loopback, settings.strategy) == ("127.0.0.1", False, "evidence")


@pytest.mark.parametrize(("name", "description"), list(leaves(Settings)))
def test_every_setting_is_in_the_readme_with_its_description(name: str, description: str | None) -> None:
    [line] = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}`")]
    assert description
    assert line.endswith(f"| {description} |")
