"""A template as the files of a folder: what `folder` reads, written. The inverse of reading, by digest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from prompts.folder import ENDING, PARTIALS
from prompts.template import AUTO, HISTORY, Part, Placeholder, Routing, Template, Variant
from prompts.writing import yaml_of


def files_of(template: Template) -> dict[str, str]:
    """Texts by path, relative to the folder of all prompts."""
    name = template.id.rpartition("/")[2]
    files = {f"{template.id}/{name}{ENDING}": prompt_file(template)}
    for tier, variant in template.variants.items():
        files[f"{template.id}/{name}.{tier}{ENDING}"] = variant_file(variant)
    for partial, text in template.partials.items():
        files[f"{PARTIALS}/{partial}.md"] = f"{text}\n"
    return files


def prompt_file(template: Template, about: str = "") -> str:
    """`NAME.prompt.yaml`: the base, without variants and partials. *about*: a comment at its top."""
    return _comment(about) + yaml_of(_base(template))


def variant_file(variant: Variant, about: str = "") -> str:
    """`NAME.TIER.prompt.yaml`."""
    return _comment(about) + yaml_of(_variant(variant))


def case_lines(cases: Iterable[Mapping[str, Any]]) -> str:
    """`cases.jsonl`."""
    return "".join(orjson.dumps(case).decode() + "\n" for case in cases)


def _comment(about: str) -> str:
    return "".join(f"# {line}\n" for line in about.splitlines())


def _base(template: Template) -> Mapping[str, Any]:
    said: dict[str, Any] = {
        "name": template.id,
        "description": template.description,
        "model": None if template.model == AUTO else template.model,
        "modelParameters": dict(template.parameters),
        "inputs": dict(template.inputs),
        "messages": _messages(template.messages),
        "responseFormat": template.response_format,
        "routing": _routing(template.routing),
        "locked": sorted(template.locked),
        "client_system": template.client_system,
        "fitted": list(template.fitted),
    }
    return {key: value for key, value in said.items() if value}


def _variant(variant: Variant) -> Mapping[str, Any]:
    said = {
        "messages": None if variant.messages is None else _messages(variant.messages),
        "modelParameters": dict(variant.parameters),
        "fitted": list(variant.fitted),
    }
    return {key: value for key, value in said.items() if value}


def _messages(parts: Sequence[Part]) -> list[dict[str, str]]:
    return [
        {"placeholder": HISTORY} if isinstance(part, Placeholder) else {"role": part.role, "content": part.content}
        for part in parts
    ]


def _routing(routing: Routing) -> dict[str, Any]:
    said = {
        "bar": routing.bar,
        "tiers": None if routing.tiers is None else list(routing.tiers),
        "stratify_by": list(routing.stratify_by) or None,
        "hold": routing.hold and str(routing.hold),
    }
    return {key: value for key, value in said.items() if value is not None}
