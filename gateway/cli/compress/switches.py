"""What can be switched on and off about a build, one switch at a time: rows to be measured beside it."""

from collections.abc import Mapping
from typing import Any

from gateway.cli.compress.running import CompressFailed
from models.catalog import Model


def switched(row: Model) -> Mapping[str, Model]:
    """By what is said of it, *row* with one thing other than it is. Raises CompressFailed where its engine has none."""
    if row.engine != "vllm":
        raise CompressFailed(f"{row.name}: --switches are of rows of the engine vllm; {row.engine} has none")
    serving, numerics = row.vllm, row.numerics
    made = {
        "not compiled" if serving.compile else "compiled": _serving(row, compile=not serving.compile),
        _with("prefix cache", not serving.prefix_caching): _serving(row, prefix_caching=not serving.prefix_caching),
        _with("chunked prefill", not serving.chunked_prefill): _serving(
            row, chunked_prefill=not serving.chunked_prefill
        ),
    }
    if serving.speculative is None:
        made["guesses by n-grams"] = _serving(row, speculative={"method": "ngram"})
    else:
        made["no guesses"] = _serving(row, speculative=None)
    kept = "fp8" if numerics.kv_cache_dtype == "auto" else "auto"
    made[f"keys and values {kept}"] = _changed(row, "numerics", kv_cache_dtype=kept)
    return made


def _with(what: str, is_on: bool) -> str:
    return what if is_on else f"no {what}"


def _serving(row: Model, **changed: object) -> Model:
    return _changed(row, "vllm", **changed)


def _changed(row: Model, part: str, **changed: object) -> Model:
    said: dict[str, Any] = row.model_dump(mode="json", exclude_defaults=True)
    said[part] = {**said.get(part, {}), **changed}
    return Model.model_validate(said)
