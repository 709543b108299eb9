"""The gate: whether a version of a template may serve, by its receipts. Pure; no I/O, no clock.

A bar is held against what it is held against everywhere here (`router/bar.py`): a pass-rate against the exact one-sided
lower bound of Clopper and Pearson, a margin against the exact lower bound of the difference to the safe tier on the
same cases. So what a bar can be depends on how many cases there are: with 95 % confidence twenty cases, all passed,
prove 0.86, fifty-nine prove 0.95; twenty pairs of which none is lost prove safe-0.2, forty-three safe-0.1. A bar of 1
says something else: every case passes; as many as there are, and nothing about those that are not there.

A text proves nothing by cases that it was made from (`prompts.fitted`), so these are not counted, whichever way they
went. Only a bar of 1 asks them too: where one of them fails, not every case passes. So they may keep a gate shut, and
can never open one.

A version that is under one of its bars passes by luck with at most the chance that the confidence leaves, however many
tiers and tags there are, as all must hold. What that is about: one run of cases that were chosen before looking at
answers. Whoever runs until a run passes, or corrects the template on the cases it is tested on, proves less; each row
says of how many runs it is.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prompts.receipt import Binding, Receipt
from prompts.suite import Bars
from router.bar import Bar, Tally, Verdict, parse_bar
from router.bounds import lower_bound
from router.evidence import tally_of

EVERY = "1"  # the bar that asks for every case
ALL, TAG, METRIC = "all", "tag ", "metric "
MOST_NEEDED = 10_000  # cases; a suite has no more

_Safe = tuple[Receipt | None, frozenset[str]]  # the safe tier's receipt, and the cases that it was made from
NOBODY: _Safe = (None, frozenset())


@dataclass(frozen=True, slots=True)
class Served:
    """A tier that the version may be sent to, what would answer there now, and the cases that it was made from."""

    tier: str
    now: Binding
    fitted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """One bar on one tier. `metric`: `all`, `tag NAME` or `metric NAME`. `passed`, `total`: of the cases that count;
    `fitted`: how many others there were. `bound`: of the pass-rate, or of the difference to the safe tier, which it
    exceeds with the gate's confidence; None where nothing was counted.
    """

    tier: str
    metric: str
    bar: str
    holds: bool
    why: str
    passed: int = 0
    total: int = 0
    bound: float | None = None
    receipt: str | None = None
    fitted: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    rows: tuple[Row, ...]

    @property
    def opens(self) -> bool:
        return bool(self.rows) and all(row.holds for row in self.rows)

    @property
    def failing(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.holds)


def gate(
    served: Sequence[Served],
    receipts: Iterable[Receipt],
    bars: Bars,
    *,
    safe_tier: str,
    confidence: float,
    excluded: Iterable[str] = (),
) -> Gate:
    """Hold *bars* against the latest valid receipt of every tier in *served* that is not *excluded*.

    Without any such tier it stays shut. Two entries of one tier are two builds: both must hold.
    """
    out = frozenset(excluded)
    kept = tuple(receipts)
    safe = next(((_latest(kept, one), one.fitted) for one in served if one.tier == safe_tier), NOBODY)
    rows: list[Row] = []
    for one in served:
        if one.tier not in out:
            rows += _rows(one, kept, bars, safe, one.tier == safe_tier, confidence)
    return Gate(tuple(rows))


def tally(receipt: Receipt, safe: Receipt | None, metric: str = ALL, fitted: Collection[str] = frozenset()) -> Tally:
    """Its cases but the *fitted*, as outcomes; paired where the *safe* tier's receipt has that case of the suite."""
    comparable = safe is not None and safe.binding.suite == receipt.binding.suite
    others = _passes(safe, metric) if safe is not None and comparable else {}
    counting = {case: passed for case, passed in _passes(receipt, metric).items() if case not in fitted}
    return sum((tally_of(passed, others.get(case)) for case, passed in counting.items()), Tally())


def cases_needed(bar: Bar) -> int:
    """How many cases, all passed and none lost, hold *bar*; MOST_NEEDED where it takes at least as many."""

    def holds(cases: int) -> bool:
        return bar.judge(Tally(passed=cases, total=cases, paired=cases)).verdict is Verdict.HOLDS

    most = 1
    while most < MOST_NEEDED and not holds(most):
        most = min(most * 2, MOST_NEEDED)
    fewest = most // 2 + 1
    while fewest < most:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if holds(middle) else (middle + 1, most)
    return most


def _rows(
    served: Served, receipts: Sequence[Receipt], bars: Bars, safe: _Safe, is_safe: bool, confidence: float
) -> Iterator[Row]:
    receipt = _latest(receipts, served)
    default = bars.of_tier(served.tier)
    if receipt is None:
        yield Row(served.tier, ALL, default or "", False, _missing(receipts, served))
        return
    if default is None:
        yield Row(served.tier, ALL, "", False, "no bar is set: write gate: {default: ...} into the suite")
    wanted = {} if default is None else {ALL: default}
    wanted |= {f"{TAG}{name}": bar for name, bar in bars.tags.items()}
    wanted |= {f"{METRIC}{name}": bar for name, bar in bars.metrics.items()}
    runs = sum(_is_of(other, served) for other in receipts)
    of_run = [f"{receipt.errors} errors among the answers"] if receipt.errors else []
    of_run += [f"the latest of {runs} runs"] if runs > 1 else []
    for metric, bar in wanted.items():
        counted = tally(receipt, safe[0], metric, _not_counting(bar, served, safe, confidence))
        asked = _passes(receipt, metric)
        holds, bound, why = _held(bar, counted, is_safe, confidence)
        if holds and bar == EVERY and (failing := len(asked) - sum(asked.values())):
            holds, why = False, f"{why}, and {failing} of those that it was made from do not"
        others = len(asked) - counted.total
        counts = f"{counted.total} of {len(asked)} cases count, a text or a model was made from the others"
        notes = [counts] if others else []
        why = "; ".join([why, *notes, *of_run])
        yield Row(served.tier, metric, bar, holds, why, counted.passed, counted.total, bound, receipt.id, others)


def _not_counting(bar: str, served: Served, safe: _Safe, confidence: float) -> frozenset[str]:
    """Of a margin the cases that either was made from: their pairs compare nothing fairly."""
    is_margin = bar != EVERY and parse_bar(bar, confidence).margin is not None
    return served.fitted | safe[1] if is_margin else served.fitted


def _held(written: str, counted: Tally, is_safe: bool, confidence: float) -> tuple[bool, float | None, str]:
    """Whether the bar holds, the bound that was held against it, and why."""
    if counted.total == 0:
        return False, None, "no case counts for it"
    counts = f"passed {counted.passed}/{counted.total}"
    if written == EVERY:
        bound = lower_bound(counted.passed, counted.total, confidence)
        return counted.passed == counted.total, bound, f"{counts}; every case must"
    bar = parse_bar(written, confidence)
    if bar.margin is not None and is_safe:
        return counted.passed > 0, None, f"{counts}; the others are compared with it, it only with nothing"
    if bar.margin is not None and counted.paired < counted.total:
        return False, None, f"{counts}; the safe tier has no valid receipt of these cases to compare with"
    shown = bar.judge(counted)
    holds = shown.verdict is Verdict.HOLDS
    if not holds and (needed := cases_needed(bar)) > (counted.paired if bar.margin is not None else counted.total):
        most = f"{MOST_NEEDED:,} or more" if needed == MOST_NEEDED else str(needed)
        return holds, shown.lower, f"{shown.says}; so few cases cannot prove it, {most} without a failure can"
    return holds, shown.lower, shown.says


def _passes(receipt: Receipt, metric: str) -> dict[str, bool]:
    """By case, for those that count for *metric*."""
    if metric.startswith(TAG):
        tag = metric.removeprefix(TAG)
        return {result.case: result.passed for result in receipt.results if tag in result.tags}
    if metric.startswith(METRIC):
        name = metric.removeprefix(METRIC)
        return {result.case: result.metrics[name] for result in receipt.results if name in result.metrics}
    return {result.case: result.passed for result in receipt.results}


def _is_of(receipt: Receipt, served: Served) -> bool:
    return receipt.tier == served.tier and not receipt.stale(served.now)


def _latest(receipts: Iterable[Receipt], served: Served) -> Receipt | None:
    """Of two made at the same time the one that shows less."""
    valid = (receipt for receipt in receipts if _is_of(receipt, served))
    return max(valid, key=lambda receipt: (receipt.made_at, *_shows_less(receipt, served.fitted)), default=None)


def _shows_less(receipt: Receipt, fitted: Collection[str]) -> tuple[int, int, list[tuple[str, bool]], str]:
    """Larger for a receipt that shows less by the cases that count, whatever others it has."""
    counting = [(result.case, result.passed) for result in receipt.results if result.case not in fitted]
    passed = sum(passes for _, passes in counting)
    return -passed, len(counting) - passed, counting, receipt.id


def _missing(receipts: Iterable[Receipt], served: Served) -> str:
    others = (receipt for receipt in receipts if receipt.tier == served.tier)
    last = max(others, key=lambda receipt: (receipt.made_at, receipt.id), default=None)
    if last is None:
        return "no receipt: the suite was not run on this tier"
    return f"no valid receipt: {', '.join(last.stale(served.now))} changed since {last.id}; run the suite again"
