"""Folders of prompts, written for a test."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from prompts.folder import load
from prompts.reading import LoadRefused

LIBRARY = Path(__file__).parent / "library"
PROMPT = """\
name: a/b
description: Say something
inputs:
  type: object
  required: [text]
  properties:
    text: {type: string, x-untrusted: true}
    tone: {type: string, default: calm, x-volatility: static}
messages:
  - role: system
    content: |
      {% include "voice" %}
      Be {{ tone }}.
  - role: user
    content: "{{ text }}"
"""
FILES = {"a/b/b.prompt.yaml": PROMPT, "_partials/voice.md": "You are brief.\n"}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, said in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(said if isinstance(said, bytes) else said.encode())
    return root


def faults(root: Path, files: Mapping[str, str | bytes]) -> list[str]:
    """What a load of FILES with *files* over them is refused for, without the folder's own path."""
    write(root, {**FILES, **files})
    with pytest.raises(LoadRefused) as refused:
        load(root)
    return [line.removeprefix(f"{root}/") for line in str(refused.value).splitlines()]
