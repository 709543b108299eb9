"""JSON values written as YAML that `plainyaml` reads as the same: for people, with long texts as blocks."""

from typing import Any

import yaml

from prompts.plainyaml import is_plain_text

LINE_COLUMNS = 110
MANY = 8  # words of a list, from which on it is no column of them


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if not text.replace("\n", "").isprintable():  # U+0085 would end a line
        style: str | None = '"'
    else:
        style = "|" if "\n" in text.strip() else None if is_plain_text(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    are_words = len(values) > MANY and all(isinstance(value, str) and value.isalnum() for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=are_words)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def yaml_of(document: Any) -> str:
    """YAML that `plainyaml` reads as *document*: long texts as blocks, nothing that it would take for a number."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_COLUMNS)
