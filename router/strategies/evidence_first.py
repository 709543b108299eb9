"""The cheapest model that has proved itself: by its outcomes on this template, else by prompts that look alike."""

from dataclasses import dataclass

from models.catalog import Model
from router.bar import Verdict
from router.decision import Basis, Decision, Estimate, Knowledge, Question


@dataclass(frozen=True, slots=True)
class EvidenceFirst:
    """From the cheapest tier up, the first model that holds the bar serves; the safe tier where none does."""

    def decide(self, question: Question, knowledge: Knowledge) -> Decision:
        models = knowledge.models
        estimates: list[Estimate] = []
        for place, model in enumerate(models[:-1]):
            estimate = judge(model, question, knowledge)
            estimates.append(estimate)
            if estimate.verdict is Verdict.HOLDS:
                order = tuple(m.name for m in models[place:])
                return Decision(order, estimate.basis, estimate.says, question.template, tuple(estimates))
        ruled_out = estimates and all(e.verdict is Verdict.FAILS for e in estimates)
        basis = Basis.EVIDENCE if ruled_out else Basis.SAFE
        reason = "; ".join(e.says for e in estimates) or "there is only one model"
        return Decision((knowledge.safe.name,), basis, reason, question.template, tuple(estimates))


def judge(model: Model, question: Question, knowledge: Knowledge) -> Estimate:
    """Hold *model* against the bar: by its template's outcomes; where they leave it open, by the prompt's looks."""
    shown = knowledge.about(question.template, model.build)
    if shown is None:
        return _by_looks(model, question, knowledge, f"{model.name} has no outcomes on this template")
    says = f"{model.name} on this template {shown.says}"
    if shown.verdict is Verdict.UNKNOWN:
        return _by_looks(model, question, knowledge, says)
    return Estimate(model.name, Basis.EVIDENCE, shown.verdict, says)


def _by_looks(model: Model, question: Question, knowledge: Knowledge, open_question: str) -> Estimate:
    threshold = knowledge.thresholds.get(model.build)
    score = None
    if threshold is not None:  # else nothing would follow from the looks, which take time
        score = knowledge.difficulty.expected_difference(model.build, knowledge.safe.build, question.features)
    if threshold is None or score is None:
        says = f"{open_question}; the looks of a prompt prove nothing about it"
        return Estimate(model.name, Basis.DIFFICULTY, Verdict.UNKNOWN, says)
    if score < threshold.score:
        says = f"{open_question}; expected difference {score:+.2f} is under {threshold.score:+.2f}"
        return Estimate(model.name, Basis.DIFFICULTY, Verdict.UNKNOWN, says)
    at_least = f"{score:+.2f} is at least {threshold.score:+.2f}, where it {threshold.says}"
    says = f"{open_question}; expected difference {at_least}"
    return Estimate(model.name, Basis.DIFFICULTY, Verdict.HOLDS, says)
