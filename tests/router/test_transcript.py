"""A decision can be written down, read again and made again: the same choice from the same facts."""

from dataclasses import replace
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bar import Bar, Cause, Shown, Verdict
from router.check import Check, Verifier
from router.decision import Basis, Candidate, Knowledge, Question
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.expected import Expected
from router.opinion import SecondOpinion
from router.strategies.evidence_first import EvidenceFirst, choose, judge
from router.transcript import candidates_of, decided_again, document_of, is_same
from router.trust import Threshold
from tests.router.world import THREE

numbers = st.floats(-1, 1)
words = st.text(max_size=12)
shown = st.builds(Shown, st.sampled_from(Verdict), numbers, numbers, words, st.none() | st.sampled_from(Cause))
weights = st.tuples(numbers, numbers, numbers, numbers)
checks = st.builds(
    Check,
    st.builds(Verifier, numbers, weights, weights, weights),
    st.floats(0, 1),
    st.floats(0, 1),
    words,
    st.none() | st.integers(1, 64),
    st.none() | st.floats(0.1, 10),
)
opinions = st.builds(
    SecondOpinion, words, st.sampled_from(["exact", "number"]), st.floats(0, 1), words, st.none() | st.floats(0.1, 10)
)
candidates = st.builds(
    Candidate,
    model=words,
    build=words,
    expected_usd=st.none() | st.decimals(0, 1, places=9),
    shown=st.none() | shown,
    threshold=st.none() | st.builds(Threshold, numbers, words),
    score=st.none() | numbers,
    check=st.none() | checks,
    opinions=st.lists(opinions, max_size=2).map(tuple),
    expected=st.none()
    | st.builds(
        Expected,
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.floats(0, 1e6),
        st.decimals(0, 1, places=12),
    ),
)


@given(st.lists(candidates, min_size=1, max_size=6), st.none() | words)
def test_made_again_it_is_the_identical_choice(weighed: list[Candidate], template: str | None) -> None:
    """After a journey through JSON, as in the ledger."""
    decision = choose(tuple(weighed), template)
    document = orjson.loads(orjson.dumps(document_of(decision)))
    again = decided_again(document)
    assert again == decision
    assert again is not None
    assert is_same(again, document)
    assert candidates_of(document) == decision.candidates


@given(st.lists(candidates, min_size=2, max_size=6))
def test_the_order_begins_with_a_candidate_and_never_goes_down_a_tier(weighed: list[Candidate]) -> None:
    named = [
        Candidate(f"m{place}", *[getattr(c, f) for f in Candidate.__slots__[1:]]) for place, c in enumerate(weighed)
    ]
    places = [int(name[1:]) for name in choose(tuple(named), None).order]
    assert places == sorted(places)
    assert places[-1] == len(named) - 1


def proved(candidate: Candidate) -> bool:
    return judge(candidate).verdict is Verdict.HOLDS


@given(st.lists(candidates, min_size=2, max_size=6))
def test_no_model_that_holds_the_bar_is_expected_to_cost_less_than_what_serves(weighed: list[Candidate]) -> None:
    """Nor does the safe tier, where all costs are known; and what serves holds the bar, or is the safe tier."""
    usd = {f"m{place}": c.expected_usd or Decimal(place) for place, c in enumerate(weighed)}
    *cheaper, safe = [
        replace(c, model=name, expected_usd=usd[name], check=None, opinions=())
        for name, c in zip(usd, weighed, strict=True)
    ]
    decision = choose((*cheaper, safe), None)
    serves = next(c for c in (*cheaper, safe) if c.model == decision.model)
    assert serves is safe or proved(serves)
    assert all(usd[serves.model] <= usd[c.model] for c in cheaper if proved(c))
    if any(map(proved, cheaper)):
        assert usd[serves.model] <= usd[safe.model]
        assert (decision.basis is Basis.COST) == (serves is safe)
    else:
        assert serves is safe


@given(st.lists(candidates, min_size=2, max_size=6))
def test_without_known_costs_the_lowest_tier_that_holds_the_bar_serves(weighed: list[Candidate]) -> None:
    *cheaper, safe = [replace(c, model=f"m{place}", expected_usd=None) for place, c in enumerate(weighed)]
    first = next((c for c in cheaper if proved(c)), safe)
    assert choose((*cheaper, safe), None).model == first.model


@given(st.lists(candidates, min_size=2, max_size=5))
def test_a_suspended_model_is_never_chosen_on_its_outcomes(weighed: list[Candidate]) -> None:
    suspended = Shown(Verdict.SUSPENDED, 0.0, 1.0, "", Cause.RATE_FELL)
    named = [
        Candidate(f"m{place}", "b", c.expected_usd, suspended, c.threshold, c.score) for place, c in enumerate(weighed)
    ]
    assert choose(tuple(named), None).model == named[-1].model


def test_a_choice_that_a_session_changed_is_still_the_strategys_own() -> None:
    knowledge = Knowledge(THREE, Evidence({}), Difficulty({}), {}, Bar(0.95, margin=0.1))
    decision = EvidenceFirst().decide(Question("t"), knowledge)
    document = document_of(decision) | {"order": ["middle"], "reason": "the session stays with middle"}
    again = decided_again(document)
    assert again is not None
    assert is_same(again, document)
    assert not is_same(again, document | {"chosen": ["small"]})


def test_costs_are_kept_to_the_last_digit() -> None:
    one = Candidate("m", "b", expected_usd=Decimal("0.000000001234567890123"))
    assert candidates_of(document_of(choose((one,), None))) == (one,)


def test_a_decision_from_before_second_opinions_can_still_be_read() -> None:
    decision = choose((Candidate("s", "s", Decimal(1)), Candidate("l", "l", Decimal(2))), None)
    document = document_of(decision)
    del document["second"]
    for candidate in document["candidates"]:
        del candidate["opinions"]
    assert decided_again(document) == decision


def test_with_a_second_opinion_it_is_the_identical_choice() -> None:
    opinion = SecondOpinion("t", "exact", 0.9, "was counted", 3.0)
    tiny, large = Candidate("tiny", "t", Decimal(1)), Candidate("large", "l", Decimal(100))
    decision = choose((tiny, Candidate("small", "s", Decimal(2), opinions=(opinion,)), large), "template")
    assert (decision.order, decision.second, decision.check) == (("small", "large"), "tiny", opinion)
    document = orjson.loads(orjson.dumps(document_of(decision)))
    again = decided_again(document)
    assert again == decision
    assert is_same(decision, document)


def test_a_form_of_another_version_is_named() -> None:
    with pytest.raises(ValueError, match="form 3"):
        candidates_of({"version": 3, "candidates": []})


def test_what_an_earlier_version_wrote_is_read_and_made_again() -> None:
    """It knew what a typical request costs, and nothing of this one."""
    knowledge = Knowledge(THREE, Evidence({}), Difficulty({}), {}, Bar(0.95, margin=0.1))
    document = document_of(EvidenceFirst().decide(Question("t"), knowledge)) | {"version": 1}
    for candidate in document["candidates"]:
        del candidate["expected"]
        candidate["typical_usd"] = candidate.pop("expected_usd")
    again = decided_again(document)
    assert again is not None
    assert is_same(again, document)
    assert [c.expected for c in again.candidates] == [None] * 3
    assert all(c.expected_usd for c in again.candidates)


def test_where_nothing_was_weighed_nothing_is_made_again() -> None:
    assert decided_again({"version": 1, "candidates": [], "group": None, "template": None}) is None
