"""Small folders that look like checkpoints to whoever reads headers and hashes bytes; no engine could load them."""

import json
from pathlib import Path
from typing import Any

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def safetensors(content: bytes = b"\0" * 16) -> bytes:
    """A file with one tensor, by the format's specification."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    return len(header).to_bytes(8, "little") + header + content


def write_checkpoint(folder: Path, *, weights: bytes = b"\0" * 16, **config: Any) -> Path:
    """A whole one; *config* is laid over its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors(weights))
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    return folder
