"""Quantising a checkpoint block by block into one that vLLM serves; what is done of it survives an interruption."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from models.compress.calibration import products, walk
from models.compress.checkpoint import CONFIG, QUANTIZATION, WEIGHTS, Checkpoint, dense
from models.compress.gptq import gptq
from models.compress.loading import blocks_of, copy_companions, linears_of, model_of, tokenizer_of, windows
from models.compress.rounding import Rounded, packed, rounded, unpacked
from models.compress.schemes import KEPT, W4A16, W8A8, Plan
from models.compress.work import Work, check_result, result_folder
from models.job import JobFailed, OnStep, Step

DEFAULT_BITS = {"rtn-w4a16": W4A16, "gptq-w4a16": W4A16, "w8a8": W8A8}
BITSANDBYTES = ("nf4", "int8")
CALIBRATED = ("gptq-w4a16",)
WINDOW_TOKENS, MOST_WINDOWS = 256, 16  # more changed the third digit of the perplexity of a model of 135M at most

Tensors = dict[str, torch.Tensor]


def quantize(settings: Mapping[str, Any], work: Work, on_step: OnStep) -> Mapping[str, Any]:
    """`method`, `group`, `bits` (per layer, by pattern), `calibration` (texts). Raises JobFailed."""
    source, result = dense(Path(settings["source"])), Path(settings["result"])
    check_result(result, source.size_bytes)
    if settings["method"] in BITSANDBYTES:
        from models.compress.in_place import by_bitsandbytes  # needs bitsandbytes

        return by_bitsandbytes(source, result, settings["method"], on_step)
    plan = plan_of(source, settings)
    config = plan.config()
    model = model_of(source)
    for place, block in _blocks(model, source, settings):
        name = f"block-{place:04}.safetensors"
        on_step(Step(f"block {place}", place, source.blocks))
        if not work.has(name):
            inputs = products(block[1], block[0]) if isinstance(block, tuple) else {}
            tensors = _quantized(_module(block), f"model.layers.{place}", plan, inputs)
            with work.writing(name) as draft:
                save_file(tensors, draft)
        _put(_module(block), f"model.layers.{place}", plan, load_file(work.path(name)))
    on_step(Step("writing", source.blocks, source.blocks))
    with result_folder(result) as folder:
        _write(source, plan, config, work, folder)
    work.drop()
    return {"result": str(result), "method": settings["method"], "bits_per_weight": bits_per_weight(source, plan)}


def plan_of(source: Checkpoint, settings: Mapping[str, Any]) -> Plan:
    """Raises JobFailed, also where a group does not divide a matrix."""
    matrices = matrices_of(source)
    plan = Plan.of(matrices, DEFAULT_BITS[settings["method"]], settings.get("bits") or {}, int(settings["group"]))
    for name, bits in plan.bits.items():
        inputs = source.tensors[f"{name}.weight"].shape[1]
        if bits == W4A16 and (inputs % plan.group or plan.group % 32):
            raise JobFailed(f"{name} has {inputs} inputs, which groups of {plan.group} do not divide; try 64 or 32")
    return plan


def matrices_of(source: Checkpoint) -> list[str]:
    """Those in the blocks; embeddings, norms and head are left as they are."""
    return [
        name.removesuffix(".weight")
        for name, tensor in source.tensors.items()
        if name.startswith("model.layers.") and name.endswith("_proj.weight") and len(tensor.shape) == 2
    ]


def bits_per_weight(source: Checkpoint, plan: Plan) -> float:
    """Of the matrices, scales counted."""
    total_bits = weights = 0.0
    for name, bits in plan.bits.items():
        rows, inputs = source.tensors[f"{name}.weight"].shape
        scales = {W4A16: rows * inputs / plan.group * 16, W8A8: rows * 32, KEPT: 0}[bits]
        total_bits, weights = total_bits + rows * inputs * bits + scales, weights + rows * inputs
    return total_bits / weights


Flowing = Any  # a block alone, or with what flows into it


def _blocks(model: Any, source: Checkpoint, settings: Mapping[str, Any]) -> Iterator[tuple[int, Flowing]]:
    """In order; with what flows into each where the method is calibrated. A block is changed before the next comes."""
    if settings["method"] not in CALIBRATED:
        yield from enumerate(blocks_of(model))
        return
    tokenizer = tokenizer_of(source)
    ids = windows(tokenizer, settings["calibration"], WINDOW_TOKENS, MOST_WINDOWS)
    if not ids.numel():
        raise JobFailed("the calibration text is empty; name one of a page or more with --calibration")
    for place, block, stream in walk(model, ids):
        yield place, (block, stream)


def _module(block: Flowing) -> nn.Module:
    module: nn.Module = block[0] if isinstance(block, tuple) else block
    return module


def _quantized(block: nn.Module, home: str, plan: Plan, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """The matrices of one block as they are stored."""
    made: Tensors = {}
    for name, linear in linears_of(block):
        bits = plan.bits[f"{home}.{name}"]
        if bits == W4A16:
            weight = linear.weight.detach()
            given = (weight, bits, plan.group, torch.bfloat16)
            four = gptq(weight, inputs[name], *given[1:]) if name in inputs else rounded(*given)
            made[f"{home}.{name}.weight_packed"] = packed(four.levels, bits)
            made[f"{home}.{name}.weight_scale"] = four.scales
            made[f"{home}.{name}.weight_shape"] = torch.tensor(weight.shape)
        elif bits == W8A8:
            eight = _eight(linear.weight.detach(), inputs.get(name))
            made[f"{home}.{name}.weight"], made[f"{home}.{name}.weight_scale"] = eight.levels, eight.scales
    return made


def _eight(weight: torch.Tensor, hessian: torch.Tensor | None) -> Rounded:
    if hessian is None:
        return rounded(weight, W8A8, None, torch.float32)
    return gptq(weight, hessian, W8A8, None, torch.float32)


def _put(block: nn.Module, home: str, plan: Plan, tensors: Tensors) -> None:
    """Let *block* compute with what is stored, so that the blocks behind it see what they will see when serving."""
    for name, linear in linears_of(block):
        own = f"{home}.{name}"
        if plan.bits[own] == W4A16:
            levels = unpacked(tensors[f"{own}.weight_packed"], W4A16, linear.in_features)
        elif plan.bits[own] == W8A8:
            levels = tensors[f"{own}.weight"]
        else:
            continue
        linear.weight.data.copy_(Rounded(levels, tensors[f"{own}.weight_scale"]).dense)


def _write(source: Checkpoint, plan: Plan, config: Mapping[str, Any], work: Work, folder: Path) -> None:
    tensors: Tensors = {}
    for place in range(source.blocks):
        tensors |= load_file(work.path(f"block-{place:04}.safetensors"))
    quantized = {f"{name}.weight" for name, bits in plan.bits.items() if bits != KEPT}
    is_tied = bool(source.config.get("tie_word_embeddings"))
    for path in sorted({tensor.path for tensor in source.tensors.values()}):
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # no dict
                if name not in quantized and not (is_tied and name == "lm_head.weight"):
                    tensors[name] = weights.get_tensor(name)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    document = {**source.config, QUANTIZATION: config}
    (folder / CONFIG).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    copy_companions(source, folder)
