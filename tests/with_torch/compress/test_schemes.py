"""Bits per layer: what a plan refuses, and what it writes into a config."""

import pytest

from models.compress.schemes import Plan
from models.job import JobFailed

PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj")
MATRICES = [f"model.layers.{place}.{part}" for place in range(2) for part in (*PARTS, "mlp.down_proj")]


def test_the_last_rule_that_matches_holds() -> None:
    plan = Plan.of(MATRICES, 4, {"*.mlp.*": 8, "model.layers.1.*": 16}, 64)

    assert plan.bits["model.layers.0.mlp.down_proj"] == 8
    assert plan.bits["model.layers.1.mlp.down_proj"] == 16
    assert plan.bits["model.layers.0.self_attn.q_proj"] == 4


def test_what_engines_fuse_must_be_done_alike() -> None:
    with pytest.raises(JobFailed, match=r"q_proj has 8 bits and k_proj 4; engines fuse q_proj, k_proj, v_proj"):
        Plan.of(MATRICES, 4, {"*.q_proj": 8}, 64)


@pytest.mark.parametrize(
    ("rules", "says"),
    [({"*.nothing": 4}, "no layer is called so"), ({"*": 3}, "3 bits; a layer may have 4, 8 or 16")],
)
def test_a_rule_that_means_nothing_is_refused(rules: dict[str, int], says: str) -> None:
    with pytest.raises(JobFailed, match=says):
        Plan.of(MATRICES, 4, rules, 64)


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(JobFailed, match="nothing to do"):
        Plan.of(MATRICES, 4, {"*": 16}, 64).config()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it imports what torch has deprecated
@pytest.mark.parametrize("rules", [{}, {"*.down_proj": 8}, {"model.layers.0.*": 16}])
def test_compressed_tensors_takes_the_config(rules: dict[str, int]) -> None:
    from compressed_tensors.quantization import QuantizationConfig

    config = Plan.of(MATRICES, 4, rules, 64).config()

    read = QuantizationConfig.model_validate(config)

    assert len(read.config_groups) == len({bits for bits in (4, *rules.values()) if bits != 16})
