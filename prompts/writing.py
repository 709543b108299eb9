"""JSON values written as YAML that `plainyaml` reads as the same: for people, with long texts as blocks."""

from typing import Any

import yaml

from prompts.plainyaml import is_plain_text

LINE_COLUMNS = 110


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if not text.replace("\n", "").isprintable():  # U+0085 would end a line
        style: str | None = '"'
    else:
        style = "|" if "\n" in text.strip() else None if is_plain_text(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_of(document: Any) -> str:
    """YAML that `plainyaml` reads as *document*: long texts as blocks, nothing that it would take for a number."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_COLUMNS)
