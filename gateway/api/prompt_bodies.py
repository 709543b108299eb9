"""What the management of prompts is sent, as types, and the templates in it."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import InvalidRequest
from gateway.library.records import Override
from prompts.folder import template_said
from prompts.promptfile import SaidPrompt, SaidVariant
from prompts.template import Template
from prompts.template_document import read_template

WORDS = 2_000
Number = Annotated[int, Field(ge=1, le=999_999_999)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class VersionWire(_Wire):
    """A new version: `prompt` is what NAME.prompt.yaml says, with `variants` by tier and the `partials` it includes;
    or `template` is a whole one in its canonical form.
    """

    id: str = Field(min_length=1, max_length=512, description="the prompt's path, such as support/triage")
    prompt: dict[str, Any] | None = Field(None, description="as NAME.prompt.yaml has it")
    variants: dict[str, dict[str, Any]] = Field({}, max_length=16, description="by tier, as NAME.TIER.prompt.yaml")
    partials: dict[str, str] = Field({}, max_length=200, description="texts that messages include, by name")
    template: dict[str, Any] | None = Field(None, description="in canonical form, instead of the three above")
    parent: Number | None = Field(None, description="the version it was made from")
    message: str = Field("", max_length=WORDS)
    draft: bool = Field(False, description="nobody's edit of what is in force: files do not wait for it")


class OverrideWire(_Wire):
    """The gate is shut, and somebody answers for it."""

    role: Name = Field(description="one that the label's policy names, and that the key has")
    reason: str = Field(min_length=1, max_length=WORDS)
    until: str = Field(max_length=64, description="ISO 8601, with its zone")


class MoveWire(_Wire):
    """Where a label shall point. If-Match says where it does now."""

    version: Number
    excluded: list[Name] = Field([], max_length=32, description="tiers that it is not to be sent to")
    override: OverrideWire | None = None
    message: str = Field("", max_length=WORDS)


class CanaryWire(_Wire):
    """What shall be tried under a label. If-Match says where that points now."""

    version: Number
    tier: str = Field("small", min_length=1, max_length=32, description="the cheaper tier that it is tried on")
    excluded: list[Name] = Field([], max_length=32, description="tiers that it is not to be sent to")
    message: str = Field("", max_length=WORDS)


class RollbackWire(_Wire):
    version: Number | None = Field(None, description="one that the label once held; the one before when left out")
    message: str = Field("", max_length=WORDS)


class RenderWire(_Wire):
    version: str = Field("latest", min_length=1, max_length=64, description="a number or a label")
    tier: Name | None = None
    variables: dict[str, Any] = {}
    messages: list[dict[str, Any]] = Field([], max_length=10_000, description="the client's own")


def template_in(said: VersionWire) -> Template:
    """Raises InvalidRequest."""
    if (said.prompt is None) == (said.template is None):
        raise InvalidRequest("send either prompt, as its file has it, or template in canonical form", param="prompt")
    try:
        if said.template is not None:
            template = read_template(said.template)
        else:
            prompt = SaidPrompt.model_validate(said.prompt, context={"id": said.id})
            variants = {tier: SaidVariant.model_validate(one).variant() for tier, one in said.variants.items()}
            template = template_said(said.id, prompt, variants, said.partials)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("prompt", *first["loc"])))
        raise InvalidRequest(f"{where}: {first['msg'].removeprefix('Value error, ')}", param=where) from error
    except ValueError as error:
        raise InvalidRequest(f"the template cannot be kept: {error}", param="template") from error
    if template.id != said.id:
        raise InvalidRequest(f"the template is called {template.id[:80]!r}, not {said.id[:80]!r}", param="template.id")
    return template


def override_in(said: OverrideWire | None) -> Override | None:
    """Raises InvalidRequest."""
    if said is None:
        return None
    try:
        until = datetime.fromisoformat(said.until)
    except ValueError as error:
        raise InvalidRequest(
            "override.until: is no time; write 2026-12-31T12:00:00Z", param="override.until"
        ) from error
    return Override(said.role, said.reason, until)
