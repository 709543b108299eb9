"""Prompts of ours as files of other tools. Pure; one file for each format, and a line in FORMATS.

What a format has no place for is told.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prompts.exporting import github, jsonl, promptfoo
from prompts.exporting.plain import Exported
from prompts.suite import Suite
from prompts.template import Template

Writer = Callable[[Template, Suite | None, str | None], Exported]  # the last: the tier whose text it is


@dataclass(frozen=True, slots=True)
class Format:
    write: Writer
    ending: str


FORMATS: dict[str, Format] = {
    "github": Format(github.write, ".prompt.yml"),
    "promptfoo": Format(promptfoo.write, ".promptfoo.yaml"),
    "jsonl": Format(jsonl.write, ".jsonl"),
}
