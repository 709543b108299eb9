"""A ledger's decisions made again, under another bar, strategy or price list: what would it have cost, how good would
it have been? Pure: reads rows that somebody else has read.

Cost is that of the recorded tokens; an answer that another model would have given is taken to be as long, and as much
of the prompt to be in that model's cache as was expected when it was decided. The expected costs, which decide, are
those of what was expected then, at the prices given. Quality is known only of answers that the same model would have
given. The decisions in a ledger are not random, so there is nothing to weigh the others by (importance sampling needs a
chance above zero for each model): of them nothing is claimed, and the interval over all lets each be right or wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from models.catalog import Model
from models.engine import Usage
from router.bar import Bar
from router.bounds import lower_bound, upper_bound
from router.decision import Candidate
from router.expected import Expected
from router.strategies.evidence_first import choose
from router.transcript import candidates_of

CONFIDENCE = 0.95  # of each interval, two-sided


@dataclass(frozen=True, slots=True)
class Served:
    """One charge with its decision. `passed`: what feedback said of the answer; None where nobody told."""

    document: Mapping[str, Any]
    model: str
    usage: Usage | None
    cost_usd: Decimal | None
    passed: bool | None


Choose = Callable[[Sequence[Candidate]], str]  # the model that would be asked first


@dataclass(frozen=True, slots=True)
class Replay:
    """`changed`: requests that another model would have answered. `unpriced`: those without a known cost on one side or
    the other, left out of both sums. Quality: `passed` of `judged` were right, all of which the same model would have
    answered; `unjudged` had an outcome but would have gone elsewhere; the rest had none.
    """

    requests: int
    changed: int
    cost_then_usd: Decimal
    cost_now_usd: Decimal
    unpriced: int
    then_passed: int
    then_judged: int
    passed: int
    judged: int
    unjudged: int

    @property
    def quality(self) -> tuple[float, float] | None:
        """The interval for requests that the same model would answer; None where the ledger cannot say."""
        return _interval(self.passed, self.judged)

    @property
    def quality_at_the_ends(self) -> tuple[float, float] | None:
        """The interval over all that had an outcome, those that would have gone elsewhere all wrong or all right."""
        total = self.judged + self.unjudged
        if not total:
            return None
        one_sided = (1 + CONFIDENCE) / 2
        low = lower_bound(self.passed, total, one_sided)
        return low, upper_bound(self.passed + self.unjudged, total, one_sided)


def by_evidence(bar: Bar | None, own: Bar) -> Choose:
    """`evidence`, held to *bar* where that is not None. *own*: the bar that the decisions were held to."""

    def chosen(candidates: Sequence[Candidate]) -> str:
        return choose(tuple(c if bar is None else _held_to(c, bar, own) for c in candidates), None).model

    return chosen


def safe(candidates: Sequence[Candidate]) -> str:
    return candidates[-1].model


def cheapest(candidates: Sequence[Candidate]) -> str:
    return candidates[0].model


def replay(served: Iterable[Served], chosen: Choose, prices: Mapping[str, Model]) -> Replay:
    """*prices*: rows by the model's name. Where nothing was weighed nothing is replayed."""
    total = Replay(0, 0, Decimal(0), Decimal(0), 0, 0, 0, 0, 0, 0)
    for one in served:
        candidates = [_priced(candidate, prices) for candidate in candidates_of(one.document)]
        if candidates:
            model = chosen(candidates)
            expected = next(candidate.expected for candidate in candidates if candidate.model == model)
            total = _with(total, one, model, expected, prices)
    return total


def _priced(candidate: Candidate, prices: Mapping[str, Model]) -> Candidate:
    """At the price that *prices* has, where it was written what to price."""
    row = prices.get(candidate.model)
    if row is None or candidate.expected is None:
        return candidate
    return replace(candidate, expected_usd=candidate.expected.cost_usd(row))


def _with(total: Replay, one: Served, model: str, expected: Expected | None, prices: Mapping[str, Model]) -> Replay:
    same = model == one.model
    row = prices.get(model)
    usage = one.usage
    if usage is not None and not same:
        usage = replace(usage, cached_tokens=int(usage.prompt_tokens * (expected.cached_share if expected else 0)))
    now_usd = None if row is None or usage is None else row.expected_cost_usd(usage, warm=True)
    priced = now_usd is not None and one.cost_usd is not None
    told = one.passed is not None
    return replace(
        total,
        requests=total.requests + 1,
        changed=total.changed + (not same),
        cost_then_usd=total.cost_then_usd + (one.cost_usd or 0 if priced else 0),
        cost_now_usd=total.cost_now_usd + (now_usd or 0 if priced else 0),
        unpriced=total.unpriced + (not priced),
        then_judged=total.then_judged + told,
        then_passed=total.then_passed + bool(one.passed),
        judged=total.judged + (told and same),
        passed=total.passed + (bool(one.passed) and same),
        unjudged=total.unjudged + (told and not same),
    )


def _held_to(candidate: Candidate, bar: Bar, own: Bar) -> Candidate:
    shown = bar.rejudged(candidate.shown) if candidate.shown else None
    if bar.asks_no_more_than(own):
        return replace(candidate, shown=shown)
    return replace(candidate, shown=shown, threshold=None, score=None, check=None, opinions=())


def _interval(passed: int, total: int) -> tuple[float, float] | None:
    if not total:
        return None
    one_sided = (1 + CONFIDENCE) / 2
    return lower_bound(passed, total, one_sided), upper_bound(passed, total, one_sided)
