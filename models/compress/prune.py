"""Pruning a checkpoint: weights to zero, or whole channels or blocks away. The result is a dense checkpoint that any
engine serves.

Zeros make it smaller and faster only where a kernel reads the pattern (two of four, on GPUs); fewer channels and blocks
do everywhere.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.compress.calibration import products, walk
from models.compress.checkpoint import BLOCK, CONFIG, WEIGHTS, Checkpoint, dense
from models.compress.loading import blocks_of, copy_companions, linears_of, model_of, tokenizer_of, windows
from models.compress.quantize import MOST_WINDOWS, WINDOW_TOKENS
from models.compress.sparsity import PATTERN, importance, pruned, pruned_by_pattern
from models.compress.width import best, importances, narrowed, width_of
from models.compress.work import Work, check_result, result_folder
from models.job import JobFailed, OnStep, Step

ALL_ZERO, NONE_ZERO = 1.0, 0.0
FEWEST_BLOCKS = 2
Named = tuple[str, torch.Tensor]
PER_BLOCK = ("layer_types",)  # lists in a config with an entry for each block


def prune(settings: Mapping[str, Any], work: Work, on_step: OnStep) -> Mapping[str, Any]:
    """`method`: magnitude or wanda (with `share`, or `pattern` 2:4), depth (with `drop`) or width (with `keep`).

    Raises JobFailed.
    """
    source, result = dense(Path(settings["source"])), Path(settings["result"])
    check_result(result, source.size_bytes)
    if settings["method"] == "depth":
        return _depth(source, result, settings, work, on_step)
    if settings["method"] == "width":
        return _width(source, result, settings, work, on_step)
    share = float(settings.get("share") or 0.5)
    if not NONE_ZERO < share < ALL_ZERO:
        raise JobFailed(f"--share {share:g}: the share of weights to set to zero is between 0 and 1")
    model, zeros, total = model_of(source), 0, 0
    ids = _ids(source, settings)
    by_input = settings["method"] == "wanda"
    for place, block, stream in (
        walk(model, ids) if by_input else ((p, b, None) for p, b in enumerate(blocks_of(model)))
    ):
        on_step(Step(f"block {place}", place, source.blocks))
        name = f"block-{place:04}.safetensors"
        if not work.has(name):
            inputs = products(stream, block) if stream is not None else {}
            with work.writing(name) as draft:
                save_file(_zeroed(block, inputs, share, settings.get("pattern")), draft)
        for own, weight in load_file(work.path(name)).items():
            block.get_submodule(own).weight.data.copy_(weight)
            zeros, total = zeros + int((weight == 0).sum()), total + weight.numel()
    on_step(Step("writing", source.blocks, source.blocks))
    with result_folder(result) as folder:
        _write(source, folder, work)
    work.drop()
    return {"result": str(result), "method": settings["method"], "zeros": zeros / total}


def influences(model: Any, ids: torch.Tensor, on_step: OnStep) -> list[float]:
    """How much each block turns what flows through it: one less the mean cosine between its input and its output.

    Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024, equation 1.
    """
    found = []
    for place, block, stream in walk(model, ids):
        on_step(Step(f"block {place}", place, len(blocks_of(model))))
        cosines = torch.cosine_similarity(stream.hidden, stream.through(block), dim=-1)
        found.append(1 - float(cosines.mean()))
    return found


def without(config: Mapping[str, Any], dropped: Sequence[int]) -> dict[str, Any]:
    """The config of a model that has lost the blocks *dropped*."""
    blocks = config["num_hidden_layers"]
    kept = [place for place in range(blocks) if place not in dropped]
    lists = {name: [config[name][place] for place in kept] for name in PER_BLOCK if config.get(name)}
    return {**config, **lists, "num_hidden_layers": len(kept)}


def renamed(name: str, dropped: Sequence[int]) -> str | None:
    """A tensor's name once the blocks *dropped* are gone; None for theirs."""
    match = BLOCK.match(name)
    if match is None:
        return name
    place = int(match[1])
    if place in dropped:
        return None
    return f"model.layers.{place - sum(one < place for one in dropped)}.{name[match.end() :]}"


def _depth(
    source: Checkpoint, result: Path, settings: Mapping[str, Any], work: Work, on_step: OnStep
) -> Mapping[str, Any]:
    drop = int(settings.get("drop") or 0)
    if not 0 < drop <= source.blocks - FEWEST_BLOCKS:
        raise JobFailed(f"--drop {drop}: of {source.blocks} blocks at least one is dropped and {FEWEST_BLOCKS} stay")
    shown = work.kept("influences.json")
    if shown is None:
        shown = influences(model_of(source), _ids(source, settings), on_step)
        work.keep("influences.json", shown)
    dropped = sorted(sorted(range(source.blocks), key=lambda place: shown[place])[:drop])

    def changed(name: str, tensor: torch.Tensor) -> Named | None:
        new = renamed(name, dropped)
        return None if new is None else (new, tensor)

    _rewrite(source, result, without(source.config, dropped), changed)
    work.drop()
    return {"result": str(result), "method": "depth", "dropped": dropped, "influences": shown}


def _width(
    source: Checkpoint, result: Path, settings: Mapping[str, Any], work: Work, on_step: OnStep
) -> Mapping[str, Any]:
    width = width_of(int(source.config["intermediate_size"]), float(settings.get("keep") or 0))
    shown = work.kept("importances.json")
    if shown is None:
        shown = importances(model_of(source), _ids(source, settings), on_step)
        work.keep("importances.json", shown)
    kept = [best(one, width) for one in shown]

    def changed(name: str, tensor: torch.Tensor) -> Named:
        match = BLOCK.match(name)
        return name, tensor if match is None else narrowed(name[match.end() :], tensor, kept[int(match[1])])

    _rewrite(source, result, {**source.config, "intermediate_size": width}, changed)
    work.drop()
    return {"result": str(result), "method": "width", "width": width}


def _rewrite(
    source: Checkpoint,
    result: Path,
    config: Mapping[str, Any],
    changed: Callable[[str, torch.Tensor], Named | None],
) -> None:
    """Every tensor of *source* as it is *changed*, without those that become None."""
    tensors = {}
    for path in sorted({tensor.path for tensor in source.tensors.values()}):
        for name, tensor in load_file(path).items():
            if (new := changed(name, tensor)) is not None:
                tensors[new[0]] = new[1]
    with result_folder(result) as folder:
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})
        _config(folder, config)
        copy_companions(source, folder)


def _ids(source: Checkpoint, settings: Mapping[str, Any]) -> torch.Tensor:
    if settings["method"] == "magnitude":
        return torch.empty(0)
    ids = windows(tokenizer_of(source), settings["calibration"], WINDOW_TOKENS, MOST_WINDOWS)
    if not ids.numel():
        raise JobFailed("the calibration text is empty; name one of a page or more with --calibration")
    return ids


def _zeroed(
    block: nn.Module, inputs: Mapping[str, torch.Tensor], share: float, pattern: str | None
) -> dict[str, torch.Tensor]:
    made = {}
    for name, linear in linears_of(block):
        weight = linear.weight.detach()
        norms = inputs[name].diagonal().sqrt() if name in inputs else None
        scores = importance(weight, norms)
        if pattern is None:
            made[name] = pruned(weight, scores, share)
        elif weight.shape[1] % PATTERN:
            raise JobFailed(f"{name} has {weight.shape[1]} inputs, which groups of {PATTERN} do not divide")
        else:
            made[name] = pruned_by_pattern(weight, scores)
    return {name: weight.contiguous() for name, weight in made.items()}


def _write(source: Checkpoint, folder: Path, work: Work) -> None:
    """Every tensor in the type that it has in *source*."""
    new = {}
    for place in range(source.blocks):
        for name, weight in load_file(work.path(f"block-{place:04}.safetensors")).items():
            new[f"model.layers.{place}.{name}.weight"] = weight
    tensors = {}
    for path in sorted({tensor.path for tensor in source.tensors.values()}):
        for name, tensor in load_file(path).items():
            tensors[name] = new[name].to(tensor.dtype) if name in new else tensor
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    _config(folder, source.config)
    copy_companions(source, folder)


def _config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
