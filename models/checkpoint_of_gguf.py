"""Makes a checkpoint of a GGUF file, in the Python that has torch: `python -m models.checkpoint_of_gguf`, a job.

What comes out depends on the file, the dtype and what transformers and gguf make of them, on nothing else: no version
and no path is left in it, so that its digest is the same wherever it is made.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from models.job import JobFailed, OnStep, Step, answer

STEPS = 3
VOLATILE = (
    "_name_or_path",
    "_model_name_or_path",
    "transformers_version",
    "_from_model_config",
    "is_local",
    "local_files_only",
)


def make(settings: dict[str, Any], on_step: OnStep) -> dict[str, Any]:
    """Write the folder that *settings* name. Raises JobFailed."""
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf, folder = Path(settings["gguf"]), Path(settings["folder"])
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    on_step(Step("reading the tokenizer", 0, STEPS))
    try:
        told = GGUFReader(gguf).fields
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise JobFailed(f"{gguf}: cannot be read as GGUF ({error}); check it with: pointsman models verify") from error
    on_step(Step("making weights whole", 1, STEPS))
    try:
        # Since 5.17 transformers keeps GGUF weights packed unless asked, and cannot save them.
        model = AutoModelForCausalLM.from_pretrained(
            **where, dtype=getattr(torch, settings["dtype"]), quantization_config=GgufConfig(dequantize=True)
        )
    except (ValueError, NotImplementedError) as error:
        raise JobFailed(f"transformers cannot make weights of this GGUF file: {error}") from error
    if tokenizer.chat_template is None and "tokenizer.chat_template" in told:
        tokenizer.chat_template = told["tokenizer.chat_template"].contents()
    ends = int(told["tokenizer.ggml.eos_token_id"].contents())  # transformers' configuration has a default of its own
    for config in (model.config, model.generation_config):
        config.eos_token_id = ends
        if hasattr(config, "quantization_config"):
            del config.quantization_config
    model.hf_quantizer = None
    on_step(Step("writing", 2, STEPS))
    folder.mkdir()
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
            _forget(folder / name)
        for path in folder.iterdir():
            path.chmod(0o644)
    except BaseException:
        shutil.rmtree(folder)
        raise
    on_step(Step("written", STEPS, STEPS))
    return {"folder": str(folder), "parameters": sum(p.numel() for p in model.parameters())}


def _forget(path: Path) -> None:
    """Leave out of *path* what says where and by what it was made."""
    document = {key: value for key, value in json.loads(path.read_text()).items() if key not in VOLATILE}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(draft, path)


if __name__ == "__main__":
    answer(make)
