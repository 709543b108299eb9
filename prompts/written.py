"""A template as the files that say it, and a suite's cases as lines: what is read back is the same. Writes no file."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import yaml

from prompts.template import AUTO, Part, Placeholder, Template, Variant

WIDTH = 10_000  # characters: a text is never folded
_TEXT = "tag:yaml.org,2002:str"
_BLOCK = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]*")  # what a block of lines can say


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if "\n" in text and text.strip(" \n") == text and _BLOCK.fullmatch(text):
        return dumper.represent_scalar(_TEXT, text, style="|")
    return dumper.represent_scalar(_TEXT, text, style=None if text[:1].isalpha() else '"')  # 0E0 is no text to us


_Dumper.add_representer(str, _text)


def variant_file(variant: Variant, about: str = "") -> str:
    """`NAME.TIER.prompt.yaml`. *about*: a comment at its top."""
    said: dict[str, Any] = {}
    if variant.parameters:
        said["modelParameters"] = dict(variant.parameters)
    if variant.messages is not None:
        said["messages"] = [_said(part) for part in variant.messages]
    return _file(said, about)


def prompt_file(template: Template, about: str = "") -> str:
    """`NAME.prompt.yaml`: the base, without variants and partials, which have files of their own."""
    routing = template.routing
    wishes = {
        "bar": routing.bar,
        "tiers": None if routing.tiers is None else list(routing.tiers),
        "stratify_by": list(routing.stratify_by) or None,
        "hold": None if routing.hold is None else routing.hold.value,
    }
    wishes = {name: wish for name, wish in wishes.items() if wish is not None}
    said = {
        "name": template.id,
        "description": template.description or None,
        "model": None if template.model == AUTO else template.model,
        "modelParameters": dict(template.parameters) or None,
        "inputs": dict(template.inputs),
        "messages": [_said(part) for part in template.messages],
        "responseFormat": None if template.response_format is None else dict(template.response_format),
        "routing": wishes or None,
        "locked": sorted(template.locked) or None,
        "client_system": template.client_system or None,
    }
    return _file({name: value for name, value in said.items() if value is not None}, about)


def case_lines(cases: Iterable[Mapping[str, Any]]) -> str:
    """`cases.jsonl`."""
    return "".join(orjson.dumps(case).decode() + "\n" for case in cases)


def _file(said: Mapping[str, Any], about: str) -> str:
    comment = "".join(f"# {line}\n" for line in about.splitlines())
    return comment + yaml.dump(said, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


def _said(part: Part) -> dict[str, str]:
    return {"placeholder": "history"} if isinstance(part, Placeholder) else {"role": part.role, "content": part.content}
