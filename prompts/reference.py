"""How a request names a prompt: an id, and which of its versions. Reads text, knows no versions."""

import re
from dataclasses import dataclass

from prompts.promptfile import LABEL
from prompts.template import ID

PRODUCTION, LATEST = "production", "latest"
NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class ReferenceRefused(ValueError):
    """What was written names no prompt; the message says what does."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A prompt's *id* and either a *number* or a *label*, never both. `latest` is computed; other labels are moved."""

    id: str
    number: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        return f"{self.id}@{self.number or self.label}"


def reference(prompt_id: str, version: str | int | None = None) -> Reference:
    """*version*: a number or a label, as in OpenAI's one field; None for `production`. A label begins with a letter, so
    the two are never taken for each other. Raises ReferenceRefused.
    """
    if len(prompt_id) > 512 or not ID.fullmatch(prompt_id):
        raise ReferenceRefused(f"{prompt_id[:80]!r} is no id of a prompt: names of a-z, 0-9, - and _, parted by /")
    if version is None:
        return Reference(prompt_id, label=PRODUCTION)
    written = str(version)
    if NUMBER.fullmatch(written):
        return Reference(prompt_id, number=int(written))
    if LABEL.fullmatch(written):
        return Reference(prompt_id, label=written)
    raise ReferenceRefused(f"{written[:80]!r} is no version: a number from 1, or a label that begins with a letter")


def read_reference(text: str) -> Reference:
    """`support/triage`, `support/triage@staging` or `support/triage@7`. Raises ReferenceRefused."""
    prompt_id, at, version = text.partition("@")
    return reference(prompt_id, version if at else None)
