"""A decision as JSON and back, with all that it was made from, so that it can be looked at and made again. No I/O."""

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from router.bar import Cause, Shown, Verdict
from router.check import Check, Verifier
from router.decision import Candidate, Decision
from router.expected import Expected
from router.opinion import SecondOpinion
from router.strategies.evidence_first import choose
from router.trust import Threshold

VERSION = 2  # of this form; 1 had what a typical request costs, in place of what this one was expected to


def document_of(decision: Decision) -> dict[str, Any]:
    """What `decision_of` reads. Estimates follow from the candidates, so they are left out."""
    return {
        "version": VERSION,
        "order": list(decision.order),
        "chosen": list(decision.chosen or decision.order),
        "second": decision.second,
        "basis": decision.basis.value,
        "reason": decision.reason,
        "template": decision.template,
        "group": decision.group,
        "candidates": [_candidate_document(candidate) for candidate in decision.candidates],
    }


def candidates_of(document: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """What the decision was made from. Raises ValueError for a form that this code does not know."""
    if document.get("version") not in (1, VERSION):
        raise ValueError(f"the decision is written in form {document.get('version')}, this Pointsman reads {VERSION}")
    return tuple(map(_candidate_of, document["candidates"]))


def decided_again(document: Mapping[str, Any]) -> Decision | None:
    """The choice as this code makes it from the same candidates; None where there were none: nothing was weighed."""
    candidates = candidates_of(document)
    return choose(candidates, document["group"] or document["template"]) if candidates else None


def is_same(decision: Decision, document: Mapping[str, Any]) -> bool:
    """Whether *decision* is what the strategy chose then; a session may have put another model in its place."""
    chosen, order = document["chosen"], document["order"]
    same_words = decision.basis.value == document["basis"] and decision.reason == document["reason"]
    return bool(list(decision.order) == chosen and (same_words or chosen != order))


def _candidate_document(candidate: Candidate) -> dict[str, Any]:
    usd = candidate.expected_usd
    return {
        "model": candidate.model,
        "build": candidate.build,
        "expected_usd": None if usd is None else str(usd),
        "expected": _expected_document(candidate.expected) if candidate.expected else None,
        "shown": asdict(candidate.shown) if candidate.shown else None,
        "threshold": asdict(candidate.threshold) if candidate.threshold else None,
        "score": candidate.score,
        "check": asdict(candidate.check) if candidate.check else None,
        "opinions": [asdict(opinion) for opinion in candidate.opinions],
    }


def _candidate_of(document: Mapping[str, Any]) -> Candidate:
    shown, threshold, check = (document[name] for name in ("shown", "threshold", "check"))
    usd, expected = document.get("expected_usd", document.get("typical_usd")), document.get("expected")
    return Candidate(
        model=document["model"],
        build=document["build"],
        expected_usd=None if usd is None else Decimal(usd),
        shown=_shown_of(shown) if shown else None,
        threshold=Threshold(**threshold) if threshold else None,
        score=document["score"],
        check=_check_of(check) if check else None,
        opinions=tuple(SecondOpinion(**opinion) for opinion in document.get("opinions", ())),  # older ones have none
        expected=Expected(**{**expected, "wait_usd": Decimal(expected["wait_usd"])}) if expected else None,
    )


def _expected_document(expected: Expected) -> dict[str, Any]:
    return {**expected._asdict(), "wait_usd": str(expected.wait_usd)}


def _shown_of(document: Mapping[str, Any]) -> Shown:
    cause = document["cause"]
    return Shown(**{**document, "verdict": Verdict(document["verdict"]), "cause": Cause(cause) if cause else None})


def _check_of(document: Mapping[str, Any]) -> Check:
    numbers = document["verifier"]
    lists = {name: tuple(numbers[name]) for name in ("weights", "means", "scales")}
    return Check(**{**document, "verifier": Verifier(bias=numbers["bias"], **lists)})
