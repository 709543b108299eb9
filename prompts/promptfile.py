"""What the files of a prompt may say: `NAME.prompt.yaml`, a tier's `NAME.TIER.prompt.yaml`, and `library.yaml`.

The first is a superset of GitHub's `.prompt.yml`, so its keys are written as there.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from prompts.suite import MOST_CASES
from prompts.template import AUTO, HISTORY, NO_INPUTS, TIER, Hold, Part, Placeholder, Routing, Text, Variant

LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,35}")  # a letter first: so no label is ever taken for a version
MOST_DESCRIPTION = 2000
Mark = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]  # of a case, as `Case.mark` has it


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SaidMessage(_Said):
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | None = None
    placeholder: Literal["history"] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.placeholder is None) != (self.role is not None and self.content is not None):
            raise ValueError(f"a message is a role and a content, or placeholder: {HISTORY} where the client's own go")
        if self.placeholder is not None and not self.role is self.content is None:
            raise ValueError("a placeholder has neither role nor content")
        return self

    def part(self) -> Part:
        return Placeholder() if self.placeholder else Text(self.role or "", self.content or "")


class SaidRouting(_Said):
    bar: float | None = Field(default=None, gt=0, lt=1)
    tiers: list[str] | None = None
    stratify_by: list[str] = []
    hold: Literal["none", "first", "whole"] | None = None

    def routing(self) -> Routing:
        hold = None if self.hold is None else Hold(self.hold)
        tiers = None if self.tiers is None else tuple(self.tiers)
        return Routing(self.bar, tiers, tuple(self.stratify_by), hold)


class SaidVariant(_Said):
    """`NAME.TIER.prompt.yaml`: another text, other parameters, or both; the inputs are the base's."""

    messages: list[SaidMessage] | None = None
    modelParameters: dict[str, Any] = {}
    fitted: list[Mark] = Field(default=[], max_length=MOST_CASES)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.messages is None and not self.modelParameters:
            raise ValueError("a variant has messages, modelParameters or both; delete the file if it has neither")
        return self

    def variant(self) -> Variant:
        messages = parts(self.messages) if self.messages is not None else None
        return Variant(messages, self.modelParameters, tuple(self.fitted))


class SaidPrompt(_Said):
    """`NAME.prompt.yaml`."""

    name: str | None = None
    description: str = Field(default="", max_length=MOST_DESCRIPTION)
    model: str = Field(default=AUTO, min_length=1, max_length=256)
    modelParameters: dict[str, Any] = {}
    inputs: dict[str, Any] = dict(NO_INPUTS)
    messages: list[SaidMessage]
    responseFormat: Literal["text", "json_object"] | dict[str, Any] | None = None
    routing: SaidRouting = SaidRouting()
    locked: list[str] = []
    client_system: bool = False
    fitted: list[Mark] = Field(default=[], max_length=MOST_CASES)
    testData: None = None
    evaluators: None = None

    @field_validator("name")
    @classmethod
    def _is_the_folder(cls, name: str | None, info: ValidationInfo) -> str | None:
        expected = (info.context or {}).get("id")
        if name is not None and expected is not None and name != expected:
            raise ValueError(f"the folder says {expected}; write that, leave name out, or move the folder")
        return name

    @field_validator("testData", "evaluators", mode="before")
    @classmethod
    def _is_elsewhere(cls, value: object) -> None:
        raise ValueError("tests are in tests.yaml beside this file; move them there")

    @field_validator("responseFormat")
    @classmethod
    def _has_a_type(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if isinstance(value, dict) and value.get("type") not in ("text", "json_object", "json_schema"):
            raise ValueError("type must be one of: text, json_object, json_schema")
        if isinstance(value, dict) and (value["type"] == "json_schema") != ("json_schema" in value):
            raise ValueError("json_schema: {name: ..., schema: ...} goes with type: json_schema, and only with that")
        return value

    def response_format(self) -> Mapping[str, Any] | None:
        return {"type": self.responseFormat} if isinstance(self.responseFormat, str) else self.responseFormat


class LabelPolicy(_Said):
    """`gated`: it moves only to what has passed its tests. `roles`: who may move it; empty for all who may write."""

    gated: bool = False
    roles: tuple[str, ...] = Field(default=(), strict=False)


class Policy(_Said):
    """`library.yaml`: what holds for all prompts. `tiers`: their names, the cheapest first; empty where any may be.

    `bars`: the share of answers that must pass, by tier, and as `default`. `source`: which side is edited.
    """

    tiers: tuple[str, ...] = Field(default=(), strict=False)
    bars: dict[str, float] = {}
    labels: dict[str, LabelPolicy] = {"production": LabelPolicy(gated=True)}
    source: Literal["files", "records"] = "files"

    @field_validator("tiers")
    @classmethod
    def _are_names(cls, tiers: tuple[str, ...]) -> tuple[str, ...]:
        for tier in tiers:
            if not TIER.fullmatch(tier) or tier == "base":
                raise ValueError(f"{tier} is no name of a tier; use a-z, 0-9, - and _, a letter first, and not base")
        if len({*tiers}) < len(tiers):
            raise ValueError("names a tier twice; keep one")
        return tiers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for tier, bar in self.bars.items():
            if tier != "default" and self.tiers and tier not in self.tiers:
                raise ValueError(f"bars.{tier}: is no tier; tiers are {', '.join(self.tiers)}, and default")
            if not 0 < bar < 1:
                raise ValueError(f"bars.{tier}: must be between 0 and 1, as 0.95")
        for label in self.labels:
            if not LABEL.fullmatch(label):
                raise ValueError(f"labels.{label}: use a-z, 0-9, _, . and -, a letter first, 36 at most")
        return self


def parts(messages: list[SaidMessage]) -> tuple[Part, ...]:
    return tuple(message.part() for message in messages)
