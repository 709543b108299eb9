"""What is known at run time of one model build on one template: a record, what an outcome does to it, and how it
stands against the bar. A value of bounded size, and pure functions; the clock's readings are arguments.

**The promise.** Let `error` be 1 - confidence of the bar. Whatever sources of outcomes are asked, whenever and however
often, over the whole life of a gateway and over all its records together the chance is at most `error` that any of them
is ever proved by a generation of outcomes whose means were all under the bar (for margins: whose mean differences to
the safe tier were). Outcomes may be of any kind, late or missing, as long as what is missing was not chosen by the
result; feedback is, so it cannot raise trust by itself. Each record spends `error / (place (place + 1))` by its place
among all records, and each of its generations `1 / (number (number + 1))` of that; both sum up to one
(`router.sequences` has the bound).

**Forgetting.** Outcomes are not faded, which would break the bound: they are dropped, a generation whole. From
`generation_outcomes` evaluated outcomes on a younger generation is counted beside the older one, and after as many
again takes its place. So an outcome counts for at least that many and at most twice as many later ones, and a
generation is a bet of its own with an error of its own.

**Change.** Nothing protects outcomes from being of yesterday but an alarm. While a model is trusted, `router.alarm`
watches whether its outcomes are still what the bar promises, and `router.mix` whether its inputs are. An alarm ends all
generations: the model is `suspended` and the safe tier serves, until a generation made of later answers alone proves it
anew, at a smaller error. Answers given before do not count, however late their outcomes come.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import log
from typing import Any

from router import alarm, mix
from router.bar import Bar, Cause, Shown, Tally, Verdict
from router.bounds import lower_bound
from router.evidence import tally_of
from router.mix import Mix
from router.sequences import Counts, Weighed, log_wealth_above, log_wealth_below, lower, upper
from router.sources import RULES, Rule, Source

LEAST_LEVEL, MOST_LEVEL = 0.02, 0.98  # of a pass-rate that live signals are held to; beyond, a bet wins nothing


@dataclass(frozen=True, slots=True)
class Terms:
    """What trust is held to. `generation_outcomes`: after how many evaluated outcomes older ones begin to be forgotten.
    `alarm_outcomes`: while a model is exactly at the bar there is a false alarm in so many outcomes at most.
    """

    bar: Bar
    rules: Mapping[Source, Rule] = field(default_factory=lambda: RULES)
    generation_outcomes: int = 2_000
    alarm_outcomes: int = 5_000

    @property
    def mean(self) -> float:
        """The bar as a mean of outcomes from 0 to 1."""
        return self.bar.pass_rate if self.bar.pass_rate is not None else (1 - (self.bar.margin or 0)) / 2

    def error(self, place: int, number: int) -> float:
        """What generation *number* of the record at *place* may spend; both count from 1."""
        return (1 - self.bar.confidence) / (place * (place + 1) * number * (number + 1))


@dataclass(frozen=True, slots=True)
class Observed:
    """One outcome. `safe_passed`: whether the safe tier's answer to the same prompt was right; None where nobody knows.

    `served_at`: when the answer was given, `at`: when its outcome came; seconds since 1970. `was`: what the same source
    had said of the same answer before. `suite`: digest of the suite that it is a case of. `released`: the answer was
    shown because it had passed a check.
    """

    source: Source
    passed: bool
    served_at: float
    at: float
    safe_passed: bool | None = None
    was: bool | None = None
    suite: str = ""
    released: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """Outcomes of answers given since `began`. `number`: how many generations its record has had, this one included."""

    number: int
    began: float
    tallies: Mapping[Source, Tally] = field(default_factory=dict)

    def evaluated(self, rules: Mapping[Source, Rule]) -> Tally:
        """Of the sources that may raise trust."""
        return sum((tally for source, tally in self.tallies.items() if rules[source].raises), Tally())


@dataclass(frozen=True, slots=True)
class Record:
    """`generations`: one, or an older and a younger one. `cause`: why an earlier one was ended by more than age.

    `pairs` and `level` are the alarm's wealth on outcomes with and without an answer of the safe tier beside them,
    `form` that on assertions alone: nearly every answer passes those, and would hide what callers complain of.
    `released` that on answers that a check let through while the model by itself has proved nothing.
    """

    place: int
    generations: tuple[Generation, ...]
    cause: Cause | None = None
    suite: str = ""
    pairs: alarm.Wealth = alarm.QUIET
    level: alarm.Wealth = alarm.QUIET
    form: alarm.Wealth = alarm.QUIET
    released: alarm.Wealth = alarm.QUIET
    inputs: Mix = field(default_factory=Mix)


@dataclass(frozen=True, slots=True)
class Given:
    """What was known of the same build and template before anything was learned: a table's tally, and what it shows."""

    tally: Tally
    shown: Shown


def new_record(place: int) -> Record:
    """*place* among all records ever made, from 1."""
    return Record(place, (Generation(1, 0.0),))


def observe(record: Record, observed: Observed, terms: Terms, given: Given | None = None) -> Record:
    """*record* after one more outcome."""
    if observed.source is Source.SUITE and observed.suite != record.suite:
        record = _of_suite(record, observed)
    if observed.was is observed.passed or observed.served_at < record.generations[0].began:
        return record
    before, _ = stand(record, terms, given)
    record = _watch(record, observed, terms, given, before)
    counted = tuple(_counted(g, observed) if observed.served_at >= g.began else g for g in record.generations)
    record = replace(record, generations=_aged(counted, observed.at, terms))
    watched = (record.pairs, record.level, record.form, record.released)
    if any(alarm.sounds(wealth, terms.alarm_outcomes) for wealth in watched) or (
        before is Verdict.HOLDS and stand(record, terms, given)[0] is Verdict.FAILS
    ):
        return restart(record, Cause.RATE_FELL, observed.at)
    return record


def saw_inputs(record: Record, prompt_tokens: Iterable[int], at: float) -> Record:
    """*record* after requests of these lengths."""
    inputs, changed = mix.after(record.inputs, prompt_tokens)
    return restart(record, Cause.INPUTS_CHANGED, at) if changed else replace(record, inputs=inputs)


def restart(record: Record, cause: Cause, at: float) -> Record:
    """Without trust from now on, for *cause*."""
    number = record.generations[-1].number + 1
    return Record(record.place, (Generation(number, at),), cause, record.suite)


def stand(record: Record, terms: Terms, given: Given | None = None) -> tuple[Verdict, Generation | None]:
    """How the build stands on this template, and the generation that shows it; None where none does.

    What was given counts until it is contradicted, and no longer after an alarm.
    """
    for generation in record.generations:
        weighed = _weighed(generation, terms)
        wanted = -log(terms.error(record.place, generation.number))
        if log_wealth_above(weighed, terms.mean) >= wanted:
            return Verdict.HOLDS, generation
        if log_wealth_below(_weighed(generation, terms, refuting=True), terms.mean) >= wanted:
            return Verdict.FAILS, generation
    if record.cause is not None and record.cause is not Cause.RESET:
        return Verdict.SUSPENDED, None
    return (given.shown.verdict if given else Verdict.UNKNOWN), None


def tell(record: Record, terms: Terms, given: Given | None = None) -> Shown:
    """How the build stands on this template, with bounds and in words."""
    verdict, generation = stand(record, terms, given)
    if generation is None and verdict is not Verdict.SUSPENDED and given is not None:
        return given.shown
    shows = generation or record.generations[0]
    weighed, error = _weighed(shows, terms), terms.error(record.place, shows.number)
    low, high = lower(weighed, error), upper(weighed, error)
    if terms.bar.pass_rate is None:
        low, high = 2 * low - 1, 2 * high - 1
    lead = f"is suspended ({record.cause}) and since then " if verdict is Verdict.SUSPENDED else "at run time "
    told = terms.bar.shown(shows.evaluated(terms.rules), low, high, lead)
    return replace(told, verdict=verdict, cause=record.cause)


def _of_suite(record: Record, observed: Observed) -> Record:
    """The first suite is no change; a case of another one is."""
    if record.suite:
        record = restart(record, Cause.SUITE_CHANGED, observed.served_at)
    return replace(record, suite=observed.suite)


def _watch(record: Record, observed: Observed, terms: Terms, given: Given | None, verdict: Verdict) -> Record:
    """Bet on "it has become worse", while there is trust to lose: where the model holds the bar, and where nobody has
    evaluated it, since it may be served by the looks of its prompts then. What a check lets through is watched where
    the model proves nothing by itself: that shall be right as often as all its answers were, less the margin, or as the
    bar says. The calibration promises no more of them than of these and the safe tier's together, so it may be eager.
    """
    if observed.was is not None and observed.passed:  # a failure taken back: the alarm does not bet backwards
        return record
    evaluated = given is not None or any(g.evaluated(terms.rules).total for g in record.generations)
    weight = terms.rules[observed.source].weight
    if verdict is not Verdict.HOLDS and evaluated:
        record = replace(record, pairs=alarm.QUIET, level=alarm.QUIET, form=alarm.QUIET)
        level = _level(record, terms, given) if observed.released else None
        if level is None:
            return record
        return replace(record, released=alarm.after(record.released, float(observed.passed), level, weight))
    if terms.bar.pass_rate is None and observed.safe_passed is not None:
        outcome = (1 + observed.passed - observed.safe_passed) / 2
        return replace(record, pairs=alarm.after(record.pairs, outcome, terms.mean, weight))
    level = _level(record, terms, given)
    if level is None:
        return record
    if observed.source is Source.ASSERTION:
        return replace(record, form=alarm.after(record.form, float(observed.passed), level, weight))
    return replace(record, level=alarm.after(record.level, float(observed.passed), level, weight))


def _level(record: Record, terms: Terms, given: Given | None) -> float | None:
    """The pass-rate that answers must not fall under where nobody compared them: the bar, or where that is a margin,
    what evaluated outcomes have shown, less the margin. None where that says nothing.
    """
    if terms.bar.pass_rate is not None:
        return terms.bar.pass_rate
    assert terms.bar.margin is not None
    shown = record.generations[0].evaluated(terms.rules)
    if given is not None:
        shown += given.tally
    level = lower_bound(shown.passed, shown.total, terms.bar.confidence) - terms.bar.margin
    return min(MOST_LEVEL, level) if level >= LEAST_LEVEL else None


def _counted(generation: Generation, observed: Observed) -> Generation:
    before = generation.tallies.get(observed.source, Tally())
    if observed.was is None or not (before.passed if observed.was else before.total - before.passed):
        tally = before + tally_of(observed.passed, observed.safe_passed)
    else:
        tally = replace(before, passed=before.passed + (1 if observed.passed else -1))
    return replace(generation, tallies={**generation.tallies, observed.source: tally})


def _aged(generations: tuple[Generation, ...], at: float, terms: Terms) -> tuple[Generation, ...]:
    oldest, newest = generations[0], generations[-1]
    counted = oldest.evaluated(terms.rules).total
    if counted >= 2 * terms.generation_outcomes and newest is not oldest:
        generations = (newest,)
    elif counted < terms.generation_outcomes or newest is not oldest:
        return generations
    return (*generations, Generation(newest.number + 1, at))


def _weighed(generation: Generation, terms: Terms, *, refuting: bool = False) -> Weighed:
    """Of the sources that may raise trust; with *refuting* only of those whose failures show that a model fails."""
    compared = terms.bar.pass_rate is None
    weighed = []
    for source, tally in generation.tallies.items():
        rule = terms.rules[source]
        if not rule.raises or (refuting and not rule.refutes):
            continue
        if compared:
            counts = Counts(tally.lost, tally.paired - tally.lost - tally.won, tally.won)
        else:
            counts = Counts(tally.total - tally.passed, 0, tally.passed)
        weighed.append((counts, rule.weight))
    return weighed


def document_of(record: Record) -> dict[str, Any]:
    """As JSON takes it."""
    return {
        "place": record.place,
        "cause": record.cause.value if record.cause else None,
        "suite": record.suite,
        "pairs": list(record.pairs),
        "level": list(record.level),
        "form": list(record.form),
        "released": list(record.released),
        "inputs": {
            "reference": list(record.inputs.reference),
            "window": list(record.inputs.window),
            "windows": record.inputs.windows,
        },
        "generations": [
            {
                "number": generation.number,
                "began": generation.began,
                "tallies": {
                    source.value: [tally.passed, tally.total, tally.lost, tally.won, tally.paired]
                    for source, tally in generation.tallies.items()
                },
            }
            for generation in record.generations
        ],
    }


def record_of(document: Mapping[str, Any]) -> Record:
    """What `document_of` wrote."""
    inputs = document["inputs"]
    return Record(
        place=document["place"],
        generations=tuple(
            Generation(
                one["number"],
                one["began"],
                {Source(source): Tally(*counts) for source, counts in one["tallies"].items()},
            )
            for one in document["generations"]
        ),
        cause=Cause(document["cause"]) if document["cause"] else None,
        suite=document["suite"],
        pairs=tuple(document["pairs"]),
        level=tuple(document["level"]),
        form=tuple(document.get("form", alarm.QUIET)),  # a record of before it was watched has none, nor of the next
        released=tuple(document.get("released", alarm.QUIET)),
        inputs=Mix(tuple(inputs["reference"]), tuple(inputs["window"]), inputs["windows"]),
    )
