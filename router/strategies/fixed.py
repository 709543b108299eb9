"""Strategies that do not look at the request: the two ends that every other one is measured against."""

from dataclasses import dataclass

from router.decision import Basis, Decision, Knowledge, Question


@dataclass(frozen=True, slots=True)
class Safe:
    """Always the safe tier."""

    def decide(self, question: Question, knowledge: Knowledge) -> Decision:
        return Decision((knowledge.safe.name,), Basis.SAFE, "the strategy is 'safe'", question.template)


@dataclass(frozen=True, slots=True)
class Cheapest:
    """Always the cheapest tier, however badly it answers. For measuring only."""

    def decide(self, question: Question, knowledge: Knowledge) -> Decision:
        order = tuple(model.name for model in knowledge.models)
        return Decision(order, Basis.PINNED, "the strategy is 'cheapest'", question.template)
