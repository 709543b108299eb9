"""Which answers of a small model are released: only as many as held-back prompts prove."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.form import JSON
from router.bar import Bar, Tally, Verdict
from router.check import Check, Verifier, load_verifiers, write_verifiers
from router.evidence import tally_of
from router.fit import FEWEST_OF_A_KIND, fit_verifiers
from router.ladder import Split
from router.outcomes import FIRST_TOKENS, Outcome
from router.signals import NAMES, Signals, signals_of
from router.trust import Checked, checks, lowest_check
from tests.router.world import LARGE, SMALL, ids, outcome

MARGIN = Bar(0.95, margin=0.1)
BY_MEAN = Verifier(0.0, (1.0, 0.0, 0.0, 0.0), (0.0,) * 4, (1.0,) * 4)
SOUND = Signals(5, -0.1, -0.5, 2.0, "stop")

chances = st.floats(0.01, 0.99)
rights = st.booleans()


def answered(chance: float, correct: bool, safe_correct: bool) -> Checked:
    return Checked(chance, tally_of(correct, safe_correct), tally_of(safe_correct, safe_correct))


answers = st.lists(st.builds(answered, chances, rights, rights), min_size=1, max_size=200)


@given(answers)
def test_what_is_released_holds_the_bar_together_with_what_is_not(found: list[Checked]) -> None:
    lowest = lowest_check(found, MARGIN)
    if lowest is None:
        return
    score, share, _ = lowest
    tally = sum((a.released if a.chance >= score else a.escalated for a in found), Tally())
    assert MARGIN.judge(tally).verdict is Verdict.HOLDS
    assert share == sum(a.chance >= score for a in found) / len(found)


@given(answers, st.integers(0, 10_000))
def test_one_more_loss_never_releases_more(found: list[Checked], place: int) -> None:
    worse = list(found)
    place %= len(found)
    worse[place] = answered(found[place].chance, False, True)
    before, after = lowest_check(found, MARGIN), lowest_check(worse, MARGIN)
    kept = replace(worse[place], released=found[place].released)
    if kept.escalated == found[place].escalated and after is not None:
        assert before is not None
        assert after[0] >= before[0]


def test_the_best_answers_are_released_and_the_rest_is_not() -> None:
    """Below a chance of one half the small model loses every pair, above it none."""
    found = [answered(place / 200, place >= 100, True) for place in range(1, 200)]
    lowest = lowest_check(found, MARGIN)
    assert lowest is not None
    score, share, says = lowest
    assert 0.45 <= score <= 0.5
    assert 0.5 <= share <= 0.56
    assert "to the safe tier" in says


def test_too_few_prompts_prove_nothing() -> None:
    assert lowest_check([answered(0.9, True, True)] * 10, MARGIN) is None
    assert lowest_check([answered(0.9, True, True)] * 60, MARGIN) is not None


def test_answers_without_a_chance_are_never_released() -> None:
    found = [answered(0.9, True, True)] * 50 + [answered(0.0, True, True)] * 50
    lowest = lowest_check(found, MARGIN)
    assert lowest is not None
    assert lowest[:2] == (0.9, 0.5)


def test_a_stream_is_checked_on_what_can_be_held_back() -> None:
    """A long answer counts as not released in the calibration, so it must not be released by the check either."""
    prompts = ids(Split.CALIBRATE, 120)
    rows = [outcome(p, m, True) for p in prompts for m in (SMALL, LARGE)]
    long = [replace(o, completion_tokens=50) if o.prompt_id in prompts[:60] else o for o in rows]
    verifiers = {("template", SMALL.build, False): BY_MEAN}
    found = checks([SMALL.build], LARGE.build, long, verifiers, MARGIN, hold_tokens=32, hold_seconds=1)
    whole, streamed = (found["template", SMALL.build, kind] for kind in (False, True))
    assert (whole.release_share, streamed.release_share) == (1.0, 0.5)
    assert (whole.hold_tokens, streamed.hold_tokens) == (None, 32)
    assert streamed.passes(SOUND)
    assert not streamed.passes(replace(SOUND, finish_reason=None))


def beginning(outcome: Outcome, logprob: float) -> Outcome:
    """A long answer whose first tokens were so likely."""
    return replace(outcome, completion_tokens=200, first_mean_logprob=logprob, first_min_logprob=logprob)


def test_a_long_stream_is_judged_by_its_beginning_where_beginnings_were_calibrated() -> None:
    """Likely beginnings are right, unlikely ones are wrong where the safe tier is right."""
    prompts = ids(Split.CALIBRATE, 120)
    rows = [beginning(outcome(p, SMALL, place < 80), -0.1 if place < 80 else -3.0) for place, p in enumerate(prompts)]
    rows += [outcome(p, LARGE, True) for p in prompts]
    both = {("template", SMALL.build, False): BY_MEAN, ("template", SMALL.build, True): BY_MEAN}
    found = checks([SMALL.build], LARGE.build, rows, both, MARGIN, FIRST_TOKENS, 1.0)
    streamed = found["template", SMALL.build, True]
    assert (streamed.by_beginning, streamed.hold_tokens) == (True, FIRST_TOKENS)
    assert streamed.release_share == pytest.approx(80 / 120)
    assert streamed.passes(Signals(FIRST_TOKENS, -0.1, -0.1))
    assert not streamed.passes(Signals(FIRST_TOKENS, -3.0, -3.0))
    other_length = checks([SMALL.build], LARGE.build, rows, both, MARGIN, FIRST_TOKENS + 1, 1.0)
    assert ("template", SMALL.build, True) not in other_length


def test_the_beginning_of_a_short_answer_is_the_answer() -> None:
    short = replace(outcome("p", SMALL, True), completion_tokens=3, first_mean_logprob=-0.25)
    assert short.first_signals == short.signals
    assert outcome("p", SMALL, True).first_signals is None


def test_a_template_without_a_verifier_has_no_check() -> None:
    rows = [outcome(p, m, True) for p in ids(Split.CALIBRATE, 100) for m in (SMALL, LARGE)]
    assert checks([SMALL.build], LARGE.build, rows, {}, MARGIN, 32, 1.0) == {}


@pytest.mark.parametrize(
    ("signals", "why"),
    [
        (None, "in time"),
        (replace(SOUND, finish_reason=None), "not ended"),
        (replace(SOUND, finish_reason="length"), "none"),
        (replace(SOUND, finish_reason="content_filter"), "none"),
        (replace(SOUND, refuses=True), "none"),
        (replace(SOUND, well_formed=False), "none"),
        (replace(SOUND, tokens=0), "none"),
        (replace(SOUND, mean_logprob=-9.0), "chance"),
    ],
)
def test_what_fails_says_why(signals: Signals | None, why: str) -> None:
    check = Check(BY_MEAN, 0.4, 0.8, "", hold_tokens=8)
    assert check.passes(SOUND)
    assert not check.passes(signals)
    assert why in check.failure(signals)


@given(st.floats(-20, 0), st.floats(-20, 0))
def test_a_likelier_answer_never_has_less_of_a_chance(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert BY_MEAN.chance(replace(SOUND, mean_logprob=low)) <= BY_MEAN.chance(replace(SOUND, mean_logprob=high))


def test_a_signal_that_is_missing_counts_as_usual() -> None:
    verifier = Verifier(0.3, (1.0, 2.0, 3.0, 4.0), (-1.0, -2.0, 3.0, 1.0), (1.0,) * 4)
    nothing = Signals(tokens=2, finish_reason="stop")
    usual = Signals(2, -1.0, -2.0, 3.0, "stop")
    assert verifier.chance(nothing) == verifier.chance(usual)


def test_signals_are_read_off_the_protocol() -> None:
    def token(logprob: float, second: float) -> dict[str, object]:
        return {"token": "x", "logprob": logprob, "top_logprobs": [{"logprob": logprob}, {"logprob": second}]}

    signals = signals_of([token(-0.5, -1.0), token(-1.5, -4.0)], "a b", "stop")
    assert signals == Signals(2, -1.0, -1.5, 1.5, "stop")
    assert signals_of([], "three little words", "length") == Signals(3, finish_reason="length")
    assert signals_of([], " \n", "stop").tokens == 0
    assert signals_of([], "I'm sorry, I cannot do that", "stop").refuses
    assert not signals_of([], "I'm fine", "stop").refuses
    assert signals_of([], '{"a": 1}', "stop", keeps_form=JSON.keeps).well_formed is True
    assert signals_of([], '{"a": ', "stop", keeps_form=JSON.keeps).well_formed is False
    assert signals_of([], '{"a": ', None, keeps_form=JSON.keeps).well_formed is None


def told(prompt_id: str, template: str, correct: bool, logprob: float) -> Outcome:
    return replace(outcome(prompt_id, SMALL, correct, template=template), mean_logprob=logprob)


def test_a_verifier_learns_what_tells_right_from_wrong_in_its_template() -> None:
    """In one template likely answers are right, in the other they are wrong; a third has too few of a kind."""
    prompts = ids(Split.FIT, 200)
    rows = [told(p, "up", place % 2 == 0, -0.1 if place % 2 == 0 else -1.0) for place, p in enumerate(prompts[:80])]
    rows += [
        told(p, "down", place % 2 == 1, -0.1 if place % 2 == 0 else -1.0) for place, p in enumerate(prompts[80:160])
    ]
    rows += [told(p, "few", place < FEWEST_OF_A_KIND - 1, -0.1) for place, p in enumerate(prompts[160:])]
    verifiers = fit_verifiers(rows)
    assert set(verifiers) == {("up", SMALL.build, False), ("down", SMALL.build, False)}
    likely, unlikely = replace(SOUND, mean_logprob=-0.1), replace(SOUND, mean_logprob=-1.0)
    up, down = verifiers["up", SMALL.build, False], verifiers["down", SMALL.build, False]
    assert up.chance(likely) > 0.5 > up.chance(unlikely)
    assert down.chance(likely) < 0.5 < down.chance(unlikely)


def test_beginnings_have_a_verifier_of_their_own() -> None:
    prompts = ids(Split.FIT, 80)
    rows = [beginning(told(p, "t", i % 2 == 0, -0.5), -0.1 if i % 2 == 0 else -1.0) for i, p in enumerate(prompts)]
    verifiers = fit_verifiers(rows)
    assert set(verifiers) == {("t", SMALL.build, False), ("t", SMALL.build, True)}
    by_beginning = verifiers["t", SMALL.build, True]
    assert (
        by_beginning.chance(Signals(FIRST_TOKENS, -0.1, -0.1))
        > 0.5
        > by_beginning.chance(Signals(FIRST_TOKENS, -1, -1))
    )


def test_prompts_kept_for_calibration_and_judgement_are_not_learned_from() -> None:
    for split in (Split.CALIBRATE, Split.TEST):
        assert fit_verifiers(told(p, "t", i % 2 == 0, -0.1 * (i % 2)) for i, p in enumerate(ids(split, 100))) == {}


def test_verifiers_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "verifiers.json"
    write_verifiers(path, {("t", "b", True): BY_MEAN})
    assert load_verifiers(path) == {("t", "b", True): BY_MEAN}
    path.write_text(path.read_text().replace(NAMES[0], "something"))
    with pytest.raises(ValueError, match="other signals"):
        load_verifiers(path)
    assert load_verifiers()
