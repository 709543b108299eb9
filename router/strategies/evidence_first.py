"""The cheapest model that has proved itself: by its outcomes on this template, else by prompts that look alike. One
whose answer is looked at before it is released goes before these where that costs less on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from models.catalog import Model
from models.engine import Usage
from router.bar import Verdict
from router.decision import Basis, Decision, Estimate, Knowledge, Question

TYPICAL = Usage(prompt_tokens=400, completion_tokens=100)  # for comparing what models cost; only the ratio matters


@dataclass(frozen=True, slots=True)
class EvidenceFirst:
    """From the cheapest tier up, the first model that holds the bar serves; the safe tier where none does.

    A cheaper one whose checked answers hold the bar, with the safe tier's in place of those that fail, goes before it
    where it costs less on average, the answers thrown away included.
    """

    def decide(self, question: Question, knowledge: Knowledge) -> Decision:
        models = knowledge.models
        estimates: list[Estimate] = []
        for place, model in enumerate(models[:-1]):
            estimate = judge(model, question, knowledge)
            estimates.append(estimate)
            if estimate.verdict is Verdict.HOLDS:
                order = tuple(m.name for m in models[place:])
                unchecked = Decision(order, estimate.basis, estimate.says, question.template, tuple(estimates))
                return _checked(models[:place], model, question, knowledge, estimates) or unchecked
        checked = _checked(models[:-1], knowledge.safe, question, knowledge, estimates)
        if checked is not None:
            return checked
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


def _checked(
    cheaper: Sequence[Model], otherwise: Model, question: Question, knowledge: Knowledge, estimates: Sequence[Estimate]
) -> Decision | None:
    """The plan with a check that costs the least on average; None where none costs less than *otherwise* alone."""
    safe = knowledge.safe
    best, best_usd = None, otherwise.expected_cost_usd(TYPICAL)
    for model in cheaper:
        check = knowledge.check(question, model)
        first_usd, safe_usd = model.expected_cost_usd(TYPICAL), safe.expected_cost_usd(TYPICAL)
        if check is None or first_usd is None or safe_usd is None or best_usd is None:
            continue
        average_usd = first_usd + safe_usd * Decimal(1 - check.release_share)
        if average_usd < best_usd:
            says = f"{model.name} answers, and {check.release_share:.0%} of such answers pass a check; {check.says}"
            order = (model.name, safe.name)
            best = Decision(order, Basis.CHECK, says, question.template, tuple(estimates), check)
            best_usd = average_usd
    return best
