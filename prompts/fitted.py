"""Which cases of a suite prove nothing of a text, or of a model, as it was made from them: shown, learned from, or
chosen by.

It answers these better than others of their kind, so no answer to them is proof. The text itself carries their marks
(`Case.mark`), and a model's row those of what its weights were taught, so that they are known at every door; a mark is
of what a case asks, and stays when its assertions or its id are changed.
"""

from collections.abc import Iterable

from prompts.suite import Case, Suite
from prompts.template import Template


def marks(cases: Iterable[Case]) -> tuple[str, ...]:
    """For what is made from *cases*."""
    return tuple(sorted({case.mark for case in cases}))


def fitted(template: Template, tier: str, suite: Suite, taught: frozenset[str]) -> frozenset[str]:
    """The ids of the cases of *suite* that the text for *tier* was made from, or that are *taught* to who answers."""
    made_from = taught.union(template.fitted_on(tier))
    return frozenset(case.id for case in suite.cases if case.mark in made_from) if made_from else frozenset()
