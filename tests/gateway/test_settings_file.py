"""The file of settings: defaults, file, variables in that order; models inline; every mistake by file and line."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gateway.cli.config import schema_text
from gateway.section import Section
from gateway.served import served_catalog
from gateway.settings import Settings, SettingsError, find_config, load, load_settings
from models.catalog import BUILTIN_CATALOG, load_catalog

ROW = "{{name: {0}, engine: scripted, tier: {1}, context_tokens: 1000}}"
SMALL, LARGE = ROW.format("small", 0), ROW.format("large", 1)
BUILTIN = "qwen2.5-coder-0.5b-instruct-q4_k_m"


class ShelfSection(Section):
    ttl_seconds: int = Field(default=60, ge=1, description="how long an answer is kept")
    folder: Path = Field(default=Path("answers"), description="where it is kept")


class SettingsWithShelf(Settings):
    """What a colleague's section takes: one model, one field."""

    model_config = SettingsConfigDict(**Settings.model_config)

    shelf: ShelfSection = Field(default_factory=ShelfSection, description="answers to repeat")


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"POINTSMAN_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def write(text: str, path: str = "pointsman.yaml") -> Path:
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


def refused(text: str, kind: type[Settings] = Settings) -> list[str]:
    write(text)
    with pytest.raises(SettingsError) as told:
        load(kind)
    return str(told.value).splitlines()


def served(text: str) -> list[str]:
    write(text)
    return list(served_catalog(load_settings()).models)


def test_a_variable_overrides_the_file_and_the_file_overrides_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write("port: 9000\nbar: '0.8'\n")
    monkeypatch.setenv("POINTSMAN_PORT", "9001")
    settings = load_settings()
    assert (settings.port, settings.bar, settings.host) == (9001, "0.8", "127.0.0.1")
    assert load_settings(port=9002).port == 9002


def test_the_file_is_the_given_one_then_the_variables_then_that_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config() is None
    assert load_settings().config is None
    write("port: 1", "pointsman.yaml")
    assert load_settings().port == 1
    monkeypatch.setenv("POINTSMAN_CONFIG", str(write("port: 2", "two.yaml")))
    assert (load_settings().port, load_settings().config) == (2, Path("two.yaml"))
    assert load_settings(config=write("port: 3", "three.yaml")).port == 3


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_says_nothing(text: str) -> None:
    write(text)
    assert load_settings() == load_settings().model_copy(update={"config": Path("pointsman.yaml")})
    assert load_settings().models == Settings.model_fields["models"].default


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("nowhere.yaml", None, r"nowhere\.yaml: no such file; set POINTSMAN_CONFIG to"),
        (".", None, r"\.: cannot be read: Is a directory"),
        ("x.yaml", "- port", r"x\.yaml:1: must hold settings"),
        ("x.yaml", "port", r"x\.yaml:1: must hold settings"),
        ("x.yaml", "port: [", r"x\.yaml:\d: not valid YAML"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_by_name(path: str, content: str | None, told: str) -> None:
    if content is not None:
        write(content, path)
    with pytest.raises(SettingsError, match=told):
        load_settings(config=path)


def test_every_mistake_is_told_and_each_where_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_CONFIDENCE", "2")
    monkeypatch.setenv("POINTSMAN_BAR", "0.9")
    text = f"""host: ok
port: 99999
prot: 1
bar: overridden
models:
  - {BUILTIN}
  - {SMALL}
  - name: large
    engine: scripted
    tier: -1
  - 5
config: x.yaml
log_level: loud
"""
    assert refused(text) == [
        "POINTSMAN_CONFIDENCE='2': must be less than 1.0",
        "pointsman.yaml:2: port: 99999: must be 65535 or less",
        "pointsman.yaml:3: prot: not permitted here; did you mean port?",
        "pointsman.yaml:8: models.2.context_tokens: is required, and not there",
        "pointsman.yaml:10: models.2.tier: -1: must be 0 or more",
        "pointsman.yaml:11: models.3: 5: Input should be a valid dictionary or instance of Model",
        "pointsman.yaml:12: config: not permitted here: it is this file; say which with --config or POINTSMAN_CONFIG",
        "pointsman.yaml:13: log_level: 'loud': must be one of: 'debug', 'info', 'warning' or 'error'",
    ]


def test_a_mistake_in_a_row_is_told_by_line_though_a_variable_says_which_rows_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POINTSMAN_MODELS", "small")
    assert refused(f"models:\n  - {SMALL}\n  - {ROW.format('large', -2)}\n") == [
        "pointsman.yaml:3: models.1.tier: -2: must be 0 or more"
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("models: all", list(load_catalog().models)),
        (f"models: {BUILTIN}", [BUILTIN]),
        (f"models: [{BUILTIN}]", [BUILTIN]),
        (f"models: [{LARGE}, {SMALL}]", ["small", "large"]),
        (f"models: [{ROW.format('large', 9)}, {BUILTIN}, {SMALL}]", ["small", BUILTIN, "large"]),
        (f"models: [{ROW.format(BUILTIN, 3)}]", [BUILTIN]),
    ],
)
def test_models_are_names_and_rows_side_by_side(text: str, names: list[str]) -> None:
    assert served(text) == names


def test_a_row_of_the_file_is_meant_before_one_of_the_catalogue() -> None:
    write(f"models: [{ROW.format(BUILTIN, 3)}]")
    assert served_catalog(load_settings()).models[BUILTIN].engine == "scripted"


@pytest.mark.parametrize(("value", "names"), [("small", ["small"]), ("all", ["small", "large"]), (BUILTIN, [BUILTIN])])
def test_a_variable_chooses_among_the_rows_of_the_file(
    monkeypatch: pytest.MonkeyPatch, value: str, names: list[str]
) -> None:
    monkeypatch.setenv("POINTSMAN_MODELS", value)
    assert served(f"models: [{SMALL}, {LARGE}]") == names


def test_rows_stand_beside_a_catalogue_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write(f"models: [{SMALL}]\naliases: {{gpt: small}}", str(folder / "mine.yaml"))
    path = write(f"catalog: mine.yaml\nmodels: [small, {LARGE}]", str(folder / "pointsman.yaml"))
    settings = load_settings(config=path)
    assert settings.catalog == folder / "mine.yaml"
    assert list(served_catalog(settings).models) == ["small", "large"]


def test_a_model_that_is_nowhere_is_told_by_line() -> None:
    write(f"models:\n  - {SMALL}\n  - lagre\n")
    with pytest.raises(
        SettingsError, match=r"^pointsman\.yaml:3: models\.1: no model lagre in the catalogue; it has: "
    ):
        served_catalog(load_settings())


def test_rows_of_one_name_or_of_the_routers_are_refused() -> None:
    assert refused(f"models:\n  - {BUILTIN}\n  - {SMALL}\n  - {SMALL}\n  - {ROW.format('auto', 2)}\n") == [
        "pointsman.yaml:4: models.2.name: two have the name small; rename one",
        "pointsman.yaml:5: models.3.name: none may have the name auto, which asks the router to choose; rename it",
    ]


def test_models_without_one_that_chats_are_refused() -> None:
    write("models:\n- {name: e, engine: scripted, tier: 0, context_tokens: 1, abilities: [embeddings]}")
    with pytest.raises(SettingsError, match=r"pointsman\.yaml:1: models: none has the ability chat"):
        served_catalog(load_settings())


def test_aliases_of_the_file_take_the_place_of_the_catalogues() -> None:
    write(f"models: [{SMALL}]")
    assert served_catalog(load_settings()).aliases == {}
    write(f"models: [{SMALL}]\naliases: {{gpt-4o: auto, x: small}}")
    assert served_catalog(load_settings()).aliases == {"gpt-4o": "auto", "x": "small"}
    write("aliases: {x: auto}")
    assert served_catalog(load_settings()).aliases == {"x": "auto"}
    write("port: 1")
    assert "gpt-4o" in served_catalog(load_settings()).aliases


@pytest.mark.parametrize("models", [f"models: [{SMALL}]", "models: all", "port: 1"])
def test_an_alias_of_nothing_is_told_by_line(models: str) -> None:
    write(f"{models}\naliases:\n  gpt-4o: auto\n  x: nobody\n")
    with pytest.raises(SettingsError, match=r"^pointsman\.yaml:4: aliases\.x: no model nobody; it may be auto or one"):
        served_catalog(load_settings())


def test_paths_start_where_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/somebody")
    (tmp_path / "etc").mkdir()
    path = write("data_dir: data\ncache_dir: ~/cache\nshelf: {folder: answers}\n", str(tmp_path / "etc" / "p.yaml"))
    settings = load(SettingsWithShelf, config=path)
    assert settings.data_dir == tmp_path / "etc" / "data"
    assert settings.cache_dir == Path("/home/of/somebody/cache")
    assert settings.shelf.folder == tmp_path / "etc" / "answers"
    assert settings.catalog == BUILTIN_CATALOG


def test_a_password_in_the_file_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    told = refused("database_url: postgresql://me:hunter2@h/d\nredis_url: redis://:hunter2@h\n")
    assert [line.partition(" holds a password")[0] for line in told] == [
        "pointsman.yaml:1: database_url:",
        "pointsman.yaml:2: redis_url:",
    ]
    assert "hunter2" not in "".join(told)
    write("database_url: postgresql://me:${PASSWORD}@h/d\nredis_url: redis://h\n")
    assert load_settings().database_url == "postgresql://me:hunter2@h/d"


def test_a_value_of_the_environment_is_filled_in_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PORT", "9000")
    monkeypatch.setenv("MY_REDIS", "hunter2")
    write("port: ${MY_PORT}")
    assert load_settings().port == 9000
    [told] = refused("redis_url: ${MY_REDIS}")
    assert told.startswith("pointsman.yaml:1: redis_url: ${MY_REDIS}: ")
    assert "hunter2" not in told
    assert refused("port: 1\nredis_url: ${NOBODY_SET_ME}") == [
        "pointsman.yaml:2: redis_url: the environment variable NOBODY_SET_ME is not set; set it, or write "
        "$${NOBODY_SET_ME} for the text itself"
    ]


def test_a_new_section_is_a_model_and_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(SettingsWithShelf).shelf.ttl_seconds == 60
    write("shelf: {ttl_seconds: 5, folder: /a}")
    assert load(SettingsWithShelf).shelf == ShelfSection(ttl_seconds=5, folder=Path("/a"))
    monkeypatch.setenv("POINTSMAN_SHELF__TTL_SECONDS", "7")
    assert load(SettingsWithShelf).shelf == ShelfSection(ttl_seconds=7, folder=Path("/a"))
    monkeypatch.setenv("POINTSMAN_SHELF__TTL_SECONDS", "0")
    assert refused("port: 0\nshelf:\n  ttl: 5", SettingsWithShelf) == [
        "POINTSMAN_SHELF__TTL_SECONDS='0': must be 1 or more",
        "pointsman.yaml:1: port: 0: must be 1 or more",
        "pointsman.yaml:3: shelf.ttl: not permitted here; did you mean ttl_seconds?",
    ]
    assert "how long an answer is kept" in schema_text(SettingsWithShelf)


def test_a_section_that_is_no_object_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_CACHE", "{not json")
    with pytest.raises(SettingsError, match="POINTSMAN_"):
        load(SettingsWithShelf)


def test_money_in_a_file_is_exact() -> None:
    write("machine_hour_usd: 0.1")
    assert load_settings().machine_hour_usd == Decimal("0.1")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("${A}")
NAMES = st.sampled_from(["name", "engine", "tier", "price", "x"]) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(NAMES, parts, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(list(Settings.model_fields)) | st.text(max_size=5) | st.integers() | st.booleans()


def complaints(path: Path) -> list[str]:
    try:
        load_settings(config=path)
    except SettingsError as error:
        return str(error).split("\n")
    return []


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_a_file_holds_is_loaded_or_refused_by_line(content: dict[Any, Any]) -> None:
    path = write(yaml.safe_dump(content))
    assert all(line.startswith((f"{path}:", "POINTSMAN_")) and line.isprintable() for line in complaints(path))
