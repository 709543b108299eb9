"""Each switch changes one thing, and what changes answers is another build."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.compress.rows import gguf_row, yaml_of
from gateway.cli.compress.running import CompressFailed
from gateway.cli.compress.switches import switched
from models.catalog import Model, load_catalog
from tests.terminal import Terminal

WHOLE = load_catalog().models["smollm2-135m-instruct-bf16"]
ROWS = st.builds(
    lambda compiled, prefixes, chunks, guesses, kept: WHOLE.model_copy(
        update={
            "vllm": WHOLE.vllm.model_validate(
                {"compile": compiled, "prefix_caching": prefixes, "chunked_prefill": chunks, "speculative": guesses}
            ),
            "numerics": WHOLE.numerics.model_copy(update={"kv_cache_dtype": kept}),
        }
    ),
    st.sampled_from([None, True, False]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, {"method": "ngram", "tokens": 3}]),
    st.sampled_from(["auto", "fp8"]),
)


def said(row: Model) -> dict[tuple[str, str], object]:
    parts = row.model_dump(mode="json")
    return {(part, name): value for part in ("vllm", "numerics") for name, value in parts[part].items()}


@given(row=ROWS)
def test_each_switch_is_one_thing_other_than_it_is(row: Model) -> None:
    others = switched(row)
    changed = set()
    for what, other in others.items():
        [field] = [name for name, value in said(other).items() if value != said(row)[name]]
        changed.add(field)
        assert (other.build != row.build) == (field[0] == "numerics"), what
        assert other.model_copy(update={"vllm": row.vllm, "numerics": row.numerics}) == row
    assert len(changed) == len(others) == 5


def test_an_engine_without_switches_says_so() -> None:
    with pytest.raises(CompressFailed, match="has none"):
        switched(load_catalog().models["smollm2-135m-instruct-q4_1"])


def test_a_build_without_switches_is_told_before_anything_is_measured(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "pupil").mkdir()
    (tmp_path / "pupil" / "it.gguf").write_bytes(b"GGUF")
    row = gguf_row("pupil", tmp_path / "pupil" / "it.gguf", load_catalog().models["smollm2-135m-instruct-q4_1"])
    (tmp_path / "pupil" / "row.yaml").write_text(yaml_of(row))

    said = terminal.run("models", "bench", str(tmp_path / "pupil"), "--switches")

    assert said.code == 1
    assert "llamacpp has none" in said.err
