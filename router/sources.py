"""Where an outcome comes from, and what each source may do to trust. A table; no I/O."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Source(StrEnum):
    SUITE = "suite"  # a case of the template's tests
    SHADOW = "shadow"  # a live request that the safe tier answered too, both answers compared
    ASSERTION = "assertion"  # a check of a live answer's form or content
    FEEDBACK = "feedback"  # what a caller told of an answer


@dataclass(frozen=True, slots=True)
class Rule:
    """`weight`: which part of each stake is laid on an outcome of this source, 0 to 1. `raises`: whether its passes can
    earn trust. All can cost it. `refutes`: whether its failures show that a model which nobody trusts yet is under the
    bar; what does not leaves that open.
    """

    weight: float
    raises: bool
    refutes: bool = True


# Who is asked to grade was not chosen by the outcome. Who tells by himself was: the angry tell more often than the
# content, and an assertion sees form where the answer may be wrong; so these can take trust and not give it.
# Who says something else than the safe tier may be the one who is right, so a shadow shows no more than that a model
# cannot be proved by shadows.
RULES: Mapping[Source, Rule] = {
    Source.SUITE: Rule(1.0, raises=True),
    Source.SHADOW: Rule(1.0, raises=True, refutes=False),
    Source.ASSERTION: Rule(1.0, raises=False),
    Source.FEEDBACK: Rule(0.5, raises=False),
}


def rules_with(raising: Container[str]) -> Mapping[Source, Rule]:
    """RULES, where the owner lets further sources earn trust."""
    return {source: replace(rule, raises=rule.raises or source in raising) for source, rule in RULES.items()}
