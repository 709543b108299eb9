"""Prompts written for other tools, as files of our folder. Pure: texts in, texts out; one file for each format.

To add one: a file, and a line in FORMATS. What a format says and ours cannot is told, each with why; nothing is
dropped in silence. No text of theirs becomes an instruction of our template language: what is not a plain variable
stands in the template as the text that it is.
"""

from collections.abc import Callable, Sequence

from prompts.importing import dotprompt, github, langfuse, openai, promptfoo, prompty
from prompts.importing.made import Imported, ImportRefused

Reader = Callable[[str, str], Sequence[Imported]]  # the text of a file, and its name without an ending

FORMATS: dict[str, Reader] = {
    "openai": openai.read,
    "langfuse": langfuse.read,
    "github": github.read,
    "dotprompt": dotprompt.read,
    "prompty": prompty.read,
    "promptfoo": promptfoo.read,
}

__all__ = ["FORMATS", "ImportRefused", "Imported"]
