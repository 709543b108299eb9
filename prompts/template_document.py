"""A template's canonical form that came from elsewhere: every part is looked at before one is made of it."""

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from prompts.folder import template_said
from prompts.promptfile import SaidPrompt, SaidVariant
from prompts.template import FORMAT, Template, template_of

AS_WRITTEN = {"parameters": "modelParameters", "response_format": "responseFormat"}  # others have one name


class _Canonical(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    format: int
    id: str
    variants: dict[str, dict[str, Any]] = {}
    partials: dict[str, str] = {}


def read_template(document: Mapping[str, Any]) -> Template:
    """The template that has *document* as its canonical form. Raises ValueError for what is none.

    Whether the parts fit together, `check` knows, as ever.
    """
    try:
        said = _Canonical.model_validate(dict(document))
        if said.format != FORMAT:
            raise ValueError(f"a template of another format than {FORMAT}")
        others = {AS_WRITTEN.get(key, key): value for key, value in (said.model_extra or {}).items()}
        prompt = SaidPrompt.model_validate({**others, "routing": _without_none(others.get("routing"))})
        variants = {tier: SaidVariant.model_validate(_variant(one)).variant() for tier, one in said.variants.items()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
    template = template_said(said.id, prompt, variants, said.partials)
    if template != template_of(orjson.dumps(document)):
        raise ValueError("it is not in canonical form: send it as it was exported")
    return template


def _variant(said: Mapping[str, Any]) -> Mapping[str, Any]:
    return {AS_WRITTEN.get(key, key): value for key, value in said.items() if value not in (None, {})}


def _without_none(routing: Any) -> Any:
    """What it does not say is not there, in a file."""
    return {k: v for k, v in routing.items() if v is not None} if isinstance(routing, dict) else routing
