"""NF4 and int8 as bitsandbytes stores them, for the engine transformers, and for vLLM with its plugin on a GPU.

NF4: sixteen levels at the quantiles of a normal distribution, in blocks of 64 weights (Dettmers et al., "QLoRA", 2023,
section 3), their scales in eight bits. int8: rows in eight bits, what is out of line stays as it is while serving
(Dettmers et al., "LLM.int8()", 2022, section 3.2).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from models.compress.checkpoint import Checkpoint
from models.compress.loading import STORED, copy_companions
from models.compress.work import result_folder
from models.job import OnStep, Step

STEPS = 2
METHODS: Mapping[str, Mapping[str, Any]] = {
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    },
    "int8": {"load_in_8bit": True},
}


def by_bitsandbytes(source: Checkpoint, result: Path, method: str, on_step: OnStep) -> Mapping[str, Any]:
    """Done in one go while the weights are loaded: seconds for a small model, so nothing of it is kept for later."""
    on_step(Step("loading", 0, STEPS))
    model = AutoModelForCausalLM.from_pretrained(
        source.folder,
        dtype=STORED,
        quantization_config=BitsAndBytesConfig(**METHODS[method]),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        device_map="cuda" if torch.cuda.is_available() else "cpu",
    )
    on_step(Step("writing", 1, STEPS))
    with result_folder(result) as folder:
        model.save_pretrained(folder)
        copy_companions(source, folder)
    return {"result": str(result), "method": method}
