"""What is counted, and against whom."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from router.bar import Tally
from router.evidence import Evidence, count
from router.outcomes import Outcome
from tests.router.world import LARGE, MIDDLE, SMALL, THREE, outcome


@st.composite
def answered(draw: st.DrawFn) -> Sequence[Outcome]:
    """Some of the models have answered some of the prompts; a prompt keeps its template."""
    prompts = draw(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["t1", "t2"])))
    return [
        outcome(prompt_id, model, draw(st.booleans()), template=template)
        for prompt_id, template in prompts.items()
        for model in THREE
        if draw(st.booleans())
    ]


def test_counts_passes_losses_and_wins_by_template_and_build() -> None:
    rows = [
        outcome("both right", SMALL, True),
        outcome("both right", LARGE, True),
        outcome("lost", SMALL, False),
        outcome("lost", LARGE, True),
        outcome("won", SMALL, True),
        outcome("won", LARGE, False),
        outcome("both wrong", SMALL, False),
        outcome("both wrong", LARGE, False),
        outcome("alone", SMALL, True),
        outcome("elsewhere", SMALL, True, template="other"),
    ]
    evidence = count(rows, LARGE.build)

    assert evidence.about("template", SMALL.build) == Tally(passed=3, total=5, lost=1, won=1, paired=4)
    assert evidence.about("template", LARGE.build) == Tally(passed=2, total=4, paired=4)
    assert evidence.about("other", SMALL.build) == Tally(passed=1, total=1)


def test_knows_nothing_of_what_was_not_counted() -> None:
    evidence = count([outcome("p", SMALL, True)], LARGE.build)

    assert evidence.about("template", MIDDLE.build) is None
    assert evidence.about("never seen", SMALL.build) is None
    assert evidence.about(None, SMALL.build) is None


def test_a_request_without_a_template_has_no_evidence_even_where_outcomes_had_none() -> None:
    assert Evidence({("", SMALL.build): Tally(99, 99)}).about(None, SMALL.build) is None


@given(rows=answered())
def test_every_outcome_is_counted_once_and_every_pair_with_its_own_prompt(rows: Sequence[Outcome]) -> None:
    evidence = count(rows, LARGE.build)
    right = {(o.prompt_id, o.build): o.correct for o in rows}

    assert set(evidence.tallies) == {(o.template, o.build) for o in rows}
    for (template, build), tally in evidence.tallies.items():
        mine = [o for o in rows if (o.template, o.build) == (template, build)]
        pairs = [(o.correct, right[o.prompt_id, LARGE.build]) for o in mine if (o.prompt_id, LARGE.build) in right]
        assert tally == Tally(
            passed=sum(o.correct for o in mine),
            total=len(mine),
            lost=pairs.count((False, True)),
            won=pairs.count((True, False)),
            paired=len(pairs),
        )


@given(rows=answered(), random=st.randoms(use_true_random=False))
def test_the_order_of_outcomes_does_not_matter(rows: Sequence[Outcome], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives random.Random

    assert count(shuffled, LARGE.build) == count(rows, LARGE.build)
