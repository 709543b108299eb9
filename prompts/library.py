"""All prompts at one moment: their versions, and which labels point where. A value, replaced whole; no I/O.

A version never changes. A label points to one version of its prompt, and moving it is all that publishing is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from prompts.promptfile import Policy
from prompts.reference import LATEST, Reference
from prompts.template import Template

FEW_TIERS = ("small", "large")  # where the library names none


class PromptNotFound(LookupError):
    """There is no such prompt, version or label; the message says which there are."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a prompt. `excluded`: tiers that it may not be sent to; it was promoted for the others alone."""

    template: Template
    number: int
    excluded: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.template.id}@{self.number}"


@dataclass(frozen=True)
class Library:
    """`versions` by prompt, then number; `labels` by prompt, then label."""

    versions: Mapping[str, Mapping[int, Version]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)

    def find(self, reference: Reference) -> Version:
        """Raises PromptNotFound: nothing else is ever served in its place."""
        versions = self.versions.get(reference.id)
        if not versions:
            raise PromptNotFound(f"there is no prompt {reference.id!r}")
        if reference.number is not None:
            number: int | None = reference.number
        elif reference.label == LATEST:
            number = max(versions)
        else:
            number = self.labels.get(reference.id, {}).get(reference.label or "")
        if number is None:
            there = ", ".join(sorted(self.labels.get(reference.id, {}))) or "none yet"
            raise PromptNotFound(f"prompt {reference.id!r} has no label {reference.label!r}; there are: {there}")
        if number not in versions:
            raise PromptNotFound(f"prompt {reference.id!r} has no version {number}; the latest is {max(versions)}")
        return versions[number]

    @cached_property
    def by_key(self) -> Mapping[str, Version]:
        """Versions by the key that the router knows them by; of equal ones the latest."""
        return {v.template.key: v for of in self.versions.values() for _, v in sorted(of.items())}


def tier_of(place: int, models: int, names: tuple[str, ...] = ()) -> str:
    """What prompts call the tier of a model that is at *place*, from 0, of *models* that chat, the cheapest first.

    The last is the safe tier and has the last of the *names*; the others have the names in their order, and those
    beyond share the last but one.
    """
    names = names or FEW_TIERS
    if place == models - 1 or len(names) == 1:
        return names[-1]
    return names[min(place, len(names) - 2)]
