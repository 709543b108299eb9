"""A file that begins with YAML between two lines of `---`, as dotprompt's and Prompty's do."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prompts.importing.made import ImportRefused, mapping
from prompts.yamlfile import YamlError, parse_yaml

FRONT = re.compile(r"\A\s*---[ \t]*\n(.*?\n)?---[ \t]*\n?", re.DOTALL)


def parted(text: str, name: str) -> tuple[Mapping[str, Any], str]:
    """What stands in front, and the text behind it. Raises ImportRefused."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = FRONT.match(text)
    if found is None:
        return {}, text
    try:
        value = parse_yaml(Path(name), found[1] or "", None).value
    except YamlError as error:
        raise ImportRefused(str(error).removeprefix(f"{name}:")) from error
    return mapping(value or {}, "the front matter"), text[found.end() :]
