"""Who may earn trust and who may cost it, how it is lost, how it is won back, and what is forgotten."""

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import mix
from router.bar import Bar, Cause, Tally, Verdict
from router.record import (
    Given,
    Observed,
    Record,
    Terms,
    document_of,
    new_record,
    observe,
    record_of,
    restart,
    saw_inputs,
    stand,
    tell,
)
from router.sources import Source, rules_with

PASS_RATE, MARGIN = Bar(0.95, pass_rate=0.9), Bar(0.95, margin=0.1)
BARS = [PASS_RATE, MARGIN]
TERMS = Terms(PASS_RATE)
LIVE = [Source.ASSERTION, Source.FEEDBACK]
EVALUATED = [Source.SUITE, Source.SHADOW]


def outcome(source: Source, passed: bool, at: float = 1.0, **changes: object) -> Observed:
    """Of an answer that was given at the same moment, to a prompt that the safe tier answered right."""
    safe_passed = None if source in LIVE else True
    return replace(Observed(source, passed, at, at, safe_passed), **changes)  # type: ignore[arg-type]  # by name


def after(record: Record, observed: Observed, times: int, terms: Terms = TERMS, given: Given | None = None) -> Record:
    for _ in range(times):
        record = observe(record, observed, terms, given)
    return record


def trusted(terms: Terms = TERMS, source: Source = Source.SHADOW) -> Record:
    record = after(new_record(1), outcome(source, True), 400, terms)
    assert stand(record, terms)[0] is Verdict.HOLDS
    return record


def alarmed(record: Record, observed: Observed, terms: Terms = TERMS, given: Given | None = None) -> Record:
    """After as many failures as it takes."""
    times = next(n for n in range(100) if after(record, observed, n, terms, given).cause)
    return after(record, observed, times, terms, given)


def given_holds(bar: Bar) -> Given:
    tally = Tally(passed=100, total=100, paired=100)
    return Given(tally, bar.judge(tally))


@pytest.mark.parametrize("bar", BARS)
@pytest.mark.parametrize("source", EVALUATED)
def test_evaluated_outcomes_earn_trust(source: Source, bar: Bar) -> None:
    terms = Terms(bar)

    assert stand(after(new_record(1), outcome(source, True), 20, terms), terms)[0] is Verdict.UNKNOWN
    assert stand(after(new_record(1), outcome(source, True), 400, terms), terms)[0] is Verdict.HOLDS


@pytest.mark.parametrize("source", LIVE)
def test_live_signals_never_earn_trust_unless_the_owner_lets_them(source: Source) -> None:
    told = outcome(source, True)
    owners = Terms(PASS_RATE, rules_with({source}))

    assert stand(after(new_record(1), told, 2_000), TERMS)[0] is Verdict.UNKNOWN
    assert stand(after(new_record(1), told, 2_000, owners), owners)[0] is Verdict.HOLDS


@pytest.mark.parametrize("bar", BARS)
@pytest.mark.parametrize("source", Source)
def test_every_source_can_cost_trust_that_was_earned_at_run_time(source: Source, bar: Bar) -> None:
    terms = Terms(bar)
    record = alarmed(trusted(terms), outcome(source, False), terms)

    assert (record.cause, stand(record, terms)[0]) == (Cause.RATE_FELL, Verdict.SUSPENDED)
    assert "suspended (pass_rate_fell)" in tell(record, terms).says


@pytest.mark.parametrize("bar", BARS)
@pytest.mark.parametrize("source", Source)
def test_every_source_can_cost_trust_that_a_table_gave(source: Source, bar: Bar) -> None:
    terms, given = Terms(bar), given_holds(bar)
    record = alarmed(new_record(1), outcome(source, False), terms, given)

    assert stand(new_record(1), terms, given)[0] is Verdict.HOLDS
    assert stand(record, terms, given)[0] is Verdict.SUSPENDED


def test_trust_is_won_back_by_later_answers_alone_and_costs_more() -> None:
    record = alarmed(trusted(), outcome(Source.SHADOW, False, at=2.0))
    assert record.cause is Cause.RATE_FELL
    late = after(record, outcome(Source.SHADOW, True, at=3.0, served_at=1.5), 2_000)
    assert late == record
    first = next(n for n in range(400) if stand(after(new_record(1), outcome(Source.SHADOW, True), n), TERMS)[1])
    again = next(n for n in range(400) if stand(after(record, outcome(Source.SHADOW, True, at=3.0), n), TERMS)[1])

    assert first < again < 2 * first


def test_what_a_table_gave_counts_no_more_after_an_alarm_and_again_after_a_reset() -> None:
    given = given_holds(PASS_RATE)
    record = alarmed(new_record(1), outcome(Source.FEEDBACK, False), TERMS, given)
    assert stand(record, TERMS, given)[0] is Verdict.SUSPENDED

    assert stand(restart(record, Cause.RESET, 9.0), TERMS, given)[0] is Verdict.HOLDS


def test_outcomes_that_clearly_fail_rule_a_model_out() -> None:
    record = after(new_record(1), outcome(Source.SUITE, False), 60)

    assert stand(record, TERMS)[0] is Verdict.FAILS
    assert tell(record, TERMS).upper < 0.9


@pytest.mark.parametrize("bar", BARS)
def test_to_differ_from_the_safe_tier_rules_nobody_out_and_stays_in_the_way_of_proof(bar: Bar) -> None:
    """Either of the two may be right: nothing is refuted, and what suites show then has to make up for it."""
    terms = Terms(bar)
    record = after(new_record(1), outcome(Source.SHADOW, False), 60, terms)

    shown = tell(record, terms)
    assert (shown.verdict, stand(record, terms)[0]) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert shown.upper < (0.9 if bar is PASS_RATE else -0.1)
    assert stand(after(record, outcome(Source.SUITE, True), 100, terms), terms)[0] is Verdict.UNKNOWN


def test_a_case_of_another_suite_ends_trust() -> None:
    first, second = (outcome(Source.SUITE, True, at, suite=name) for at, name in ((1.0, "a"), (2.0, "b")))
    record = after(new_record(1), first, 400)
    assert stand(record, TERMS)[0] is Verdict.HOLDS
    record = observe(record, second, TERMS)

    assert (record.cause, record.suite, stand(record, TERMS)[0]) == (Cause.SUITE_CHANGED, "b", Verdict.SUSPENDED)
    assert record.generations[0].tallies[Source.SUITE].total == 1


def test_inputs_of_other_lengths_end_trust() -> None:
    record = saw_inputs(trusted(), [100] * mix.REFERENCE, at=2.0)
    record = saw_inputs(record, [2_000] * mix.WINDOW, at=3.0)

    assert (record.cause, stand(record, TERMS)[0]) == (Cause.INPUTS_CHANGED, Verdict.SUSPENDED)


def test_told_twice_is_told_once_and_the_last_word_counts() -> None:
    owners = Terms(PASS_RATE, rules_with({Source.FEEDBACK}))
    right, wrong = outcome(Source.FEEDBACK, True), outcome(Source.FEEDBACK, False)
    once = observe(new_record(1), right, owners)
    twice = observe(once, replace(right, was=True), owners)
    contradicted = observe(twice, replace(wrong, was=True), owners)

    assert twice == once
    assert contradicted.generations[0].tallies == observe(new_record(1), wrong, owners).generations[0].tallies
    back = observe(contradicted, replace(right, was=False), owners)
    assert back.generations == once.generations


def test_a_failure_that_is_taken_back_does_not_sound_the_alarm() -> None:
    record = trusted()
    for _ in range(200):
        record = observe(record, outcome(Source.FEEDBACK, True, was=False), TERMS)

    assert record.cause is None


def test_generations_are_dropped_whole_and_the_younger_takes_over() -> None:
    terms = Terms(PASS_RATE, generation_outcomes=100)
    record, seen = new_record(1), []
    for place in range(1, 601):
        record = observe(record, outcome(Source.SHADOW, True, at=float(place)), terms)
        seen.append(record.generations[0].evaluated(terms.rules).total)

    assert max(seen) <= 200
    assert min(seen[100:]) >= 100
    assert len(record.generations) <= 2
    assert record.generations[0].number > 3


def test_an_old_success_is_forgotten_even_where_no_alarm_sounds() -> None:
    terms = Terms(PASS_RATE, generation_outcomes=300, alarm_outcomes=10**12)
    record = after(new_record(1), outcome(Source.SHADOW, True), 250, terms)
    random = Random(1)
    for _ in range(900):
        record = observe(record, outcome(Source.SHADOW, random.random() < 0.87, at=2.0), terms)

    assert stand(record, terms)[0] is not Verdict.HOLDS


def test_answers_in_the_right_form_do_not_hide_what_callers_complain_of() -> None:
    """Nearly all answers are well formed; counted together with complaints they would make up for them."""
    record = trusted()
    for _ in range(40):
        record = after(record, outcome(Source.ASSERTION, True, at=2.0), 20)
        record = observe(record, outcome(Source.FEEDBACK, False, at=2.0), TERMS)

    assert record.cause is Cause.RATE_FELL


def open_case(bar: Bar) -> Given:
    """Evaluated, and neither proved nor refuted."""
    tally = Tally(passed=30, total=36, lost=5, won=2, paired=36)
    shown = bar.judge(tally)
    assert shown.verdict is Verdict.UNKNOWN
    return Given(tally, shown)


@pytest.mark.parametrize("bar", BARS)
def test_complaints_about_what_a_check_let_through_sound_the_alarm(bar: Bar) -> None:
    """Where the model by itself has proved nothing, only those: of its other answers nobody was promised anything."""
    terms, known = Terms(bar), open_case(bar)
    released = outcome(Source.FEEDBACK, False, released=True)
    assert alarmed(new_record(1), released, terms, known).cause is Cause.RATE_FELL
    assert after(new_record(1), replace(released, released=False), 200, terms, known).cause is None


@pytest.mark.parametrize("bar", BARS)
def test_other_answers_do_not_hide_what_a_check_let_through(bar: Bar) -> None:
    terms, known = Terms(bar), open_case(bar)
    record = new_record(1)
    for _ in range(100):
        record = observe(record, outcome(Source.FEEDBACK, True), terms, known)
        record = observe(record, outcome(Source.FEEDBACK, False, released=True), terms, known)
    assert record.cause is Cause.RATE_FELL


@pytest.mark.parametrize("bar", BARS)
def test_what_a_check_let_through_and_was_right_sounds_none(bar: Bar) -> None:
    record = after(new_record(1), outcome(Source.FEEDBACK, True, released=True), 500, Terms(bar), open_case(bar))
    assert record.cause is None


def test_a_record_of_before_forms_were_watched_is_read() -> None:
    written = document_of(trusted())
    del written["form"], written["released"]

    assert record_of(written) == trusted()


@given(places=st.integers(min_value=1, max_value=2_000), numbers=st.integers(min_value=1, max_value=500))
def test_all_records_and_generations_together_spend_no_more_than_the_error(places: int, numbers: int) -> None:
    whole = sum(TERMS.error(place, 1) * 2 for place in range(1, places + 1))
    of_one = sum(TERMS.error(1, number) * 2 for number in range(1, numbers + 1))

    assert whole <= 0.05 + 1e-12
    assert of_one <= 0.05 + 1e-12


@given(
    st.lists(
        st.builds(
            Observed,
            st.sampled_from(Source),
            st.booleans(),
            st.floats(min_value=0, max_value=100),
            st.floats(min_value=0, max_value=100),
            st.sampled_from([None, True, False]),
            st.sampled_from([None, True, False]),
            st.sampled_from(["", "a", "b"]),
            st.booleans(),
        ),
        max_size=60,
    ),
    st.sampled_from(BARS),
)
def test_a_record_of_any_outcomes_is_bounded_and_survives_the_database(outcomes: list[Observed], bar: Bar) -> None:
    terms = Terms(bar, generation_outcomes=5, alarm_outcomes=50)
    record = new_record(3)
    for observed in outcomes:
        record = observe(record, observed, terms)
    written = json.dumps(document_of(record))

    assert record_of(json.loads(written)) == record
    assert len(written) < 4_000
    shown = tell(record, terms)
    assert shown.lower <= shown.upper
    assert shown.verdict is stand(record, terms)[0]


@given(passes=st.integers(min_value=0, max_value=300), fails=st.integers(min_value=0, max_value=30))
def test_what_is_told_agrees_with_the_verdict(passes: int, fails: int) -> None:
    record = after(after(new_record(1), outcome(Source.SUITE, True), passes), outcome(Source.SUITE, False), fails)
    shown = tell(record, TERMS)

    if shown.verdict is Verdict.HOLDS:
        assert shown.lower >= 0.9 - 1e-5
    if shown.verdict is Verdict.UNKNOWN:
        assert shown.lower <= 0.9 <= shown.upper
