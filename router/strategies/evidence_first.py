"""The cheapest way that has proved itself, of those that this request may take: a model by its outcomes on this
template, else by prompts that look alike; a model whose answer is looked at before it is released; the safe tier.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from router.bar import Verdict
from router.check import Check
from router.decision import Basis, Candidate, Decision, Estimate, Knowledge, Question
from router.opinion import SecondOpinion


@dataclass(frozen=True, slots=True)
class EvidenceFirst:
    """Of the models that hold the bar, the one that is expected to cost the least for this request serves; the safe
    tier where none holds it, or where that costs less still, as it may with a warm prompt cache or an empty queue.

    A cheaper one whose checked answers hold the bar, with the safe tier's in place of those that fail, goes before it
    where it costs less on average, the answers thrown away included. What has no known cost is ranked by its tier.
    """

    def decide(self, question: Question, knowledge: Knowledge) -> Decision:
        return choose(knowledge.candidates(question), question.template)


def choose(candidates: tuple[Candidate, ...], template: str | None) -> Decision:
    """The whole choice, from nothing but what is in *candidates*, the last of which is the safe tier."""
    *cheaper, safe = candidates
    estimates: list[Estimate] = []
    proved: Estimate | None = None  # of the cheapest that holds the bar
    at = len(cheaper)  # its place
    for place, candidate in enumerate(cheaper):
        if proved is not None and not _costs_less(candidate, candidates[at]):
            continue  # it would not serve, whatever is known of it
        estimate = judge(candidate)
        estimates.append(estimate)
        if estimate.verdict is Verdict.HOLDS:
            proved, at = estimate, place
    dearer = candidates[at] if proved is not None and _costs_less(safe, candidates[at]) else None
    checked = _checked(candidates, len(cheaper) if dearer else at, template, estimates)
    if checked is not None:
        return checked
    if dearer is not None and proved is not None:
        reason = f"{safe.model} is expected to cost {safe.expected_usd:.2g} USD now, {dearer.model} "
        reason += f"{dearer.expected_usd:.2g}; {proved.says}"
        return Decision((safe.model,), Basis.COST, reason, template, estimates=tuple(estimates), candidates=candidates)
    if proved is not None:
        order = tuple(c.model for c in candidates[at:])
        return Decision(order, proved.basis, proved.says, template, estimates=tuple(estimates), candidates=candidates)
    ruled_out = estimates and all(e.verdict is Verdict.FAILS for e in estimates)
    basis = Basis.EVIDENCE if ruled_out else Basis.SAFE
    reason = "; ".join(e.says for e in estimates) or "there is only one model"
    return Decision((safe.model,), basis, reason, template, estimates=tuple(estimates), candidates=candidates)


def _costs_less(candidate: Candidate, other: Candidate) -> bool:
    """As far as that is known."""
    if candidate.expected_usd is None or other.expected_usd is None:
        return False
    return candidate.expected_usd < other.expected_usd


def judge(candidate: Candidate) -> Estimate:
    """Hold it against the bar: by its template's outcomes; where they leave it open, by the prompt's looks."""
    shown = candidate.shown
    if shown is None:
        return _by_looks(candidate, f"{candidate.model} has no outcomes on this template")
    says = f"{candidate.model} on this template {shown.says}"
    if shown.verdict is Verdict.UNKNOWN:
        return _by_looks(candidate, says)
    return Estimate(candidate.model, Basis.EVIDENCE, shown.verdict, says)


def _by_looks(candidate: Candidate, open_question: str) -> Estimate:
    threshold, score = candidate.threshold, candidate.score
    if threshold is None or score is None:
        says = f"{open_question}; the looks of a prompt prove nothing about it"
        return Estimate(candidate.model, Basis.DIFFICULTY, Verdict.UNKNOWN, says)
    if score < threshold.score:
        says = f"{open_question}; expected difference {score:+.2f} is under {threshold.score:+.2f}"
        return Estimate(candidate.model, Basis.DIFFICULTY, Verdict.UNKNOWN, says)
    at_least = f"{score:+.2f} is at least {threshold.score:+.2f}, where it {threshold.says}"
    says = f"{open_question}; expected difference {at_least}"
    return Estimate(candidate.model, Basis.DIFFICULTY, Verdict.HOLDS, says)


def _checked(
    candidates: tuple[Candidate, ...], otherwise: int, template: str | None, estimates: Sequence[Estimate]
) -> Decision | None:
    """The plan with a check that costs the least on average; None where none costs less than candidate *otherwise*
    alone, which is the first that has proved itself, or the safe tier.
    """
    safe = candidates[-1]
    best, best_usd = None, candidates[otherwise].expected_usd
    for first in candidates[:otherwise]:
        for check, second in _ways(first, candidates):
            average_usd = _average_usd(first, second, safe, check)
            if average_usd is None or best_usd is None or average_usd >= best_usd:
                continue
            best = Decision(
                (first.model, safe.model),
                Basis.CHECK,
                f"{first.model} answers, and {_share(check, second)}; {check.says}",
                template,
                estimates=tuple(estimates),
                candidates=candidates,
                check=check,
                second=second.model if second else None,
            )
            best_usd = average_usd
    return best


def _ways(
    first: Candidate, candidates: Sequence[Candidate]
) -> Iterator[tuple[Check | SecondOpinion, Candidate | None]]:
    """What the answer of *first* may be held to, each with who is asked besides."""
    if first.check is not None:
        yield first.check, None
    for opinion in first.opinions:
        second = next((c for c in candidates[:-1] if c.build == opinion.second), None)
        if second is not None:
            yield opinion, second


def _average_usd(
    first: Candidate, second: Candidate | None, safe: Candidate, check: Check | SecondOpinion
) -> Decimal | None:
    """Of an answer, those that are thrown away included; None where a price is not known."""
    asked = [first.expected_usd] if second is None else [first.expected_usd, second.expected_usd]
    if safe.expected_usd is None or None in asked:
        return None
    spent_usd = sum((usd for usd in asked if usd is not None), Decimal(0))
    return spent_usd + safe.expected_usd * Decimal(1 - check.release_share)


def _share(check: Check | SecondOpinion, second: Candidate | None) -> str:
    if second is None:
        return f"{check.release_share:.0%} of such answers pass a check"
    return f"{second.model} says the same as {check.release_share:.0%} of such answers"
