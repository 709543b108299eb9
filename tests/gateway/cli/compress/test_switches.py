"""Each switch changes one thing, and what changes answers is another build."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.compress.running import CompressFailed
from gateway.cli.compress.switches import switched
from models.catalog import Model, load_catalog

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
