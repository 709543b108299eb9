"""An import put into a folder and loaded, as the command does."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prompts.folder import load
from prompts.importing import Imported
from prompts.render import render
from prompts.suite import Suite
from prompts.suite_file import load_suite
from prompts.template import Template


def landed(made: Imported) -> tuple[Template, Suite | None]:
    """What our own reader makes of its files; it refuses what is wrong in them."""
    with TemporaryDirectory() as folder:
        home = Path(folder) / made.id
        home.mkdir(parents=True)
        for name, text in made.files.items():
            (home / name).write_text(text, encoding="utf-8")
        prompt = load(Path(folder)).prompts[made.id]
        return prompt.template, load_suite(home) if prompt.tests else None


def said(template: Template, variables: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in render(template, None, variables).messages]
