"""Importing LiteLLM's configuration: every shape loads here, every key is carried or named, and no secret is copied."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pytest

from gateway.from_litellm import Imported, translate
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Ability, Catalog, Model
from prompts.yamlfile import Loc, YamlError, YamlFile, parse_yaml, read_yaml

SHAPES = sorted((Path(__file__).parents[1] / "data" / "litellm").glob("*.yaml"))
SECRET = "s3cret"  # is part of every literal secret in the shapes
# Keys whose value says which other thing is meant, and so is not in the new file as it was.
MEANING = {"mode", "litellm_credential_name", "credential_name", "custom_llm_provider", "model_name", "api_key"}


@pytest.fixture(params=SHAPES, ids=lambda path: path.stem)
def shape(request: pytest.FixtureRequest) -> YamlFile:
    path: Path = request.param
    return read_yaml(path, variables=None)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Loading":
    for name in Settings.model_fields:
        monkeypatch.delenv(f"POINTSMAN_{name.upper()}", raising=False)
    return Loading(tmp_path, monkeypatch)


class Loading:
    """Reads an imported file as an operator would who has set every variable that the import asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = folder / "pointsman.yaml"
        self._monkeypatch = monkeypatch

    def settings(self, imported: Imported) -> Settings:
        for name in imported.variables:
            self._monkeypatch.setenv(name, "redis://cache:6379" if name == "REDIS_URL" else "http://127.0.0.1:1")
        self._path.write_text(imported.text, encoding="utf-8")
        return load_settings(config=self._path)

    def catalog(self, imported: Imported) -> Catalog:
        return served_catalog(self.settings(imported))

    def row(self, text: str) -> Model:
        """The only row of what *text*, one of `model_list`, becomes."""
        [model] = self.catalog(imported(f"model_list:\n  - {text}"))
        return model


def imported(text: str) -> Imported:
    return translate(parse_yaml(Path("config.yaml"), text, variables=None))


def leaves(value: Any, loc: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    if isinstance(value, dict | list) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, (*loc, key))
    else:
        yield loc, value


def stands_in(text: str, value: Any) -> bool:
    """As it was, without LiteLLM's prefixes, or per million tokens."""
    said = str(value).removeprefix("os.environ/")
    try:
        per_million = str(float(Decimal(said) * 1_000_000))
    except InvalidOperation:
        per_million = said
    return any(part in text for part in (said, said.partition("/")[2] or said, per_million))


def test_there_are_more_than_twenty_shapes() -> None:
    assert len(SHAPES) > 20


def test_what_is_made_of_a_shape_loads_and_can_be_served(shape: YamlFile, loaded: Loading) -> None:
    made = translate(shape)
    assert {*made.models} <= {*loaded.catalog(made).models}


def test_every_key_of_a_shape_is_carried_or_named(shape: YamlFile) -> None:
    made = translate(shape)
    named = {problem.loc for problem in made.dropped}
    for loc, value in leaves(shape.value):
        if value in ({}, []) or any(loc[:length] in named for length in range(len(loc) + 1)):
            continue
        keys = [part for part in loc if isinstance(part, str)]
        is_ability = keys[-1].startswith("supports_")
        assert MEANING & {keys[-1]} or is_ability or stands_in(made.text, value), f"{loc} is neither carried nor named"


def test_every_dropped_key_is_in_the_file_and_has_a_reason(shape: YamlFile) -> None:
    for problem in translate(shape).dropped:
        assert shape.has(problem.loc), problem.loc
        assert problem.remedy


def test_no_secret_of_a_shape_is_copied_or_told(shape: YamlFile) -> None:
    made = translate(shape)
    assert SECRET not in made.text
    assert SECRET not in shape.tell_all(list(made.dropped))
    assert SECRET not in "".join(made.variables)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("model: openai/x, api_base: 'http://h/v1', api_key: os.environ/K", ("openai", "http://h/v1", "x", "K")),
        ("model: openai/x", ("openai", "https://api.openai.com/v1", "x", "OPENAI_API_KEY")),
        ("model: gpt-4o", ("openai", "https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY")),
        ("model: hosted_vllm/a/b, api_base: 'http://h/v1'", ("openai", "http://h/v1", "a/b", None)),
        ("model: ollama/x, api_base: 'http://h:1/'", ("openai", "http://h:1/v1", "x", None)),
        ("model: ollama/x, api_base: 'http://h:1/v1'", ("openai", "http://h:1/v1", "x", None)),
        ("model: ollama_chat/x", ("openai", "http://localhost:11434/v1", "x", None)),
        ("model: groq/x", ("openai", "https://api.groq.com/openai/v1", "x", "GROQ_API_KEY")),
        ("model: x, custom_llm_provider: openai, api_base: 'http://h'", ("openai", "http://h", "x", None)),
        ("model: azure/x, api_base: 'https://h/', api_key: none", ("litellm", "https://h/", "azure/x", None)),
        ("model: anthropic/x", ("litellm", None, "anthropic/x", "ANTHROPIC_API_KEY")),
        ("model: gemini/x, api_key: sk-1", ("litellm", None, "gemini/x", "M_API_KEY")),
        ("model: bedrock/a.b:0", ("litellm", None, "bedrock/a.b:0", None)),
        ("model: x, custom_llm_provider: bedrock", ("litellm", None, "bedrock/x", None)),
        ("model: claude-3", ("litellm", None, "claude-3", None)),
        ("model: never_heard_of/x", ("litellm", None, "never_heard_of/x", None)),
    ],
)
def test_a_provider_decides_how_a_model_is_called(
    loaded: Loading, params: str, expected: tuple[str | None, ...]
) -> None:
    row = loaded.row(f"{{model_name: m, litellm_params: {{{params}}}}}")
    assert (row.engine, row.base_url, row.served_as, row.api_key_env) == expected


def test_servers_of_one_model_are_replicas_of_one_row(loaded: Loading) -> None:
    row = loaded.row(
        """{model_name: m, litellm_params: {model: openai/x, api_base: http://one/v1}}
  - {model_name: m, litellm_params: {model: openai/x, api_base: http://two/v1}}
  - {model_name: m, litellm_params: {model: openai/x, api_base: http://three/v1}}"""
    )
    assert (row.base_url, row.replicas) == ("http://one/v1", ("http://two/v1", "http://three/v1"))


@pytest.mark.parametrize(
    "other",
    [
        "model: openai/y, api_base: http://two/v1",
        "model: openai/x, api_base: http://two/v1, api_key: os.environ/OTHER",
        "model: openai/x, api_base: http://one/v1",
        "model: azure/x, api_base: http://two/v1",
        "model: openai/x, api_base: http://two/v1, input_cost_per_token: 1, output_cost_per_token: 1",
    ],
)
def test_what_differs_under_one_name_is_rows_of_their_own(loaded: Loading, other: str) -> None:
    made = imported(
        f"""model_list:
  - {{model_name: m, litellm_params: {{model: openai/x, api_base: http://one/v1}}}}
  - {{model_name: m, litellm_params: {{{other}}}}}"""
    )
    assert list(loaded.catalog(made).models) == ["m", "m-2"]
    assert any(problem.loc == ("model_list", 1, "model_name") for problem in made.dropped)


def test_two_keys_under_one_name_get_two_variables() -> None:
    made = imported(
        """model_list:
  - {model_name: m, litellm_params: {model: openai/x, api_key: one}}
  - {model_name: m, litellm_params: {model: openai/y, api_key: two}}
  - {model_name: m, litellm_params: {model: openai/z, api_key: one}}"""
    )
    assert made.variables == ("M_API_KEY", "M_API_KEY_2")


def test_tiers_follow_prices_where_all_are_known(loaded: Loading) -> None:
    made = translate(read_yaml(next(path for path in SHAPES if path.stem == "priced"), variables=None))
    catalog = loaded.catalog(made)
    assert list(catalog.models) == ["small", "middle", "large"]
    price = catalog.models["small"].price
    assert price
    assert (price.input_usd, price.output_usd, price.cached_input_usd) == tuple(map(Decimal, ("0.15", "0.6", "0.075")))
    assert "by price" in made.text


def test_tiers_follow_the_file_where_a_price_is_not_known(loaded: Loading) -> None:
    made = translate(read_yaml(next(path for path in SHAPES if path.stem == "half_priced"), variables=None))
    assert list(loaded.catalog(made).models) == ["one-sided", "by-the-second", "free"]
    assert "in the order of that file" in made.text


def test_abilities_are_those_that_the_file_tells(loaded: Loading) -> None:
    row = loaded.row("{model_name: m, litellm_params: {model: openai/x}, model_info: {supports_vision: true}}")
    assert {Ability.IMAGES, Ability.CHAT, Ability.TOOLS} <= row.abilities
    row = loaded.row(
        "{model_name: m, litellm_params: {model: openai/x}, model_info: {supports_function_calling: false}}"
    )
    assert Ability.TOOLS not in row.abilities


def test_aliases_name_the_rows(loaded: Loading) -> None:
    made = translate(read_yaml(next(path for path in SHAPES if path.stem == "aliases_and_fallbacks"), variables=None))
    assert loaded.catalog(made).aliases == {"gpt-4": "gpt-4o", "hidden-one": "gpt-4o", "old-name": "zephyr-beta"}


def test_redis_becomes_one_address_without_its_password(loaded: Loading) -> None:
    made = translate(read_yaml(next(path for path in SHAPES if path.stem == "redis_by_parts"), variables=None))
    assert "redis_url: redis://:${REDIS_PASSWORD}@${REDIS_HOST}:1992" in made.text


@pytest.mark.parametrize("text", ["", "- a", "just text"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(YamlError, match=r"config\.yaml:1: must hold a LiteLLM configuration"):
        imported(text)


@pytest.mark.parametrize(
    "text",
    [
        "model_list: nothing",
        "model_list: {a: b}",
        "model_list: [1, null, [x], {}]",
        "model_list: [{model_name: a, litellm_params: [x], model_info: 3}]",
        "model_list: [{model_name: 3, litellm_params: {model: 4, api_key: 5, api_base: 6, max_parallel_requests: x}}]",
        "router_settings: 3\nlitellm_settings: [x]\ncredential_list: {a: b}",
        "router_settings: {model_group_alias: [x], redis_host: null}",
        "credential_list: [{credential_name: a}, 3]",
        "1: 2",
    ],
)
def test_an_odd_file_is_taken_as_far_as_it_goes(text: str) -> None:
    file = parse_yaml(Path("config.yaml"), text, variables=None)
    made = translate(file)
    assert made.dropped
    assert file.tell_all(list(made.dropped))
