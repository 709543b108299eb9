"""A checkpoint as a GGUF file, for llama.cpp: the file that the model once came from, with the weights of now.

Vocabulary and settings are copied from that file, field by field; matrices are stored in eight bits (Q8_0), norms as
they are. A checkpoint with fewer blocks, or narrower ones, gives such a file.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.torch import load_file

from models.compress.checkpoint import Checkpoint, dense
from models.compress.work import Work, check_result
from models.job import JobFailed, OnStep, Step

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
COMPUTED = ("rope_freqs.weight",)  # llama.cpp makes it anew
WRITERS_OWN = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")
EIGHT = gguf.GGMLQuantizationType.Q8_0

Array = Any  # numpy's


def as_gguf(settings: Mapping[str, Any], work: Work, on_step: OnStep) -> Mapping[str, Any]:
    """`source`, a folder; `like`, the GGUF file it came from. Raises JobFailed."""
    source, result = dense(Path(settings["source"])), Path(settings["result"])
    check_result(result, source.size_bytes)
    reader = read(Path(settings["like"]))
    fields = {name: field for name, field in reader.fields.items() if name not in WRITERS_OWN}
    architecture = str(reader.fields["general.architecture"].contents())
    changed = {
        f"{architecture}.block_count": source.blocks,
        f"{architecture}.feed_forward_length": source.config["intermediate_size"],
    }
    names = dict(_names(source, [str(tensor.name) for tensor in reader.tensors]))
    tensors = {k: v for path in {t.path for t in source.tensors.values()} for k, v in load_file(path).items()}
    draft = result.with_name(f".{result.name}.draft")
    writer = gguf.GGUFWriter(str(draft), architecture)
    try:
        for name, field in fields.items():
            _copy(writer, name, changed.get(name, field.contents()), field)
        for place, (name, own) in enumerate(names.items()):
            on_step(Step(name, place, len(names)))
            if own not in tensors:
                raise JobFailed(f"{source.folder}: has no {own}, which {settings['like']} has; they are not one model")
            _add(writer, name, _laid_out(name, tensors[own].float().numpy(), source.config, architecture))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(draft, result)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return {"result": str(result), "size_bytes": result.stat().st_size}


def read(path: Path) -> gguf.GGUFReader:
    """Raises JobFailed."""
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise JobFailed(f"{path}: is no GGUF file, or is cut off ({error}); fetch it again") from error


def _names(source: Checkpoint, there: list[str]) -> Iterator[tuple[str, str]]:
    """GGUF's name of each tensor, and the checkpoint's. Blocks that are pruned away are left out."""
    for name in there:
        home, _, kind = name.rpartition(".")
        if home in OUTER:
            yield name, f"{OUTER[home]}.{kind}"
        elif home.startswith("blk."):
            _, place, own = home.split(".")
            if own not in NAMES:
                raise JobFailed(f"{name}: a kind of tensor that is not known here")
            if int(place) < source.blocks:
                yield name, f"model.layers.{place}.{NAMES[own]}.{kind}"
        elif name not in COMPUTED:
            raise JobFailed(f"{name}: a kind of tensor that is not known here")


def _laid_out(name: str, values: Array, config: Mapping[str, Any], architecture: str) -> Array:
    """llama.cpp turns pairs of neighbours where the checkpoint turns halves: rows of query and key are reordered."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}.get(name.split(".")[-2])
    if architecture != "llama" or heads is None:
        return values
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _add(writer: gguf.GGUFWriter, name: str, values: Array) -> None:
    if values.ndim == 1 or values.shape[1] % 32:
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    else:
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), EIGHT), raw_dtype=EIGHT)


def _copy(writer: gguf.GGUFWriter, name: str, value: Any, field: gguf.ReaderField) -> None:
    if name == "general.file_type":
        value = int(gguf.LlamaFileType.MOSTLY_Q8_0)
    sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(name, value, field.types[0], sub_type=sub_type)
