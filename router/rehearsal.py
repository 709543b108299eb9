"""Is the promise kept? Made-up templates, whose true pass-rates only this module knows, are served by the real decision
code on outcomes that come late, twice or not at all, while an adversary who sees every decision changes things at the
worst moment. Pure: randomness is an argument.

**What is promised, and what counts as broken.** Take every request that the cheaper model served while it was claimed
proved, with what the true pass-rate (or difference to the safe tier) of its template lacked to the bar at that moment.
Better moments are no excuse for worse ones.

- *A template that never changed under its name* lacks nothing, ever.
- *One that changed `k` times under its name* lacks more than TOLERANCE in so few requests that what it lacks beyond
  sums up to at most `k` times CHANGE_OUTCOMES answers, divided by the share of requests that are evaluated. Nobody can
  notice a change before its outcomes have come; the smaller it is the more that takes, and one that is under the
  tolerance may take for ever.

A run is broken as soon as one of its templates is. The share of broken runs is promised to be at most 1 - confidence.
The first part is proved (`router.record`), whatever the outcomes' number and timing; the second is measured.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from random import Random
from typing import Protocol

from models.catalog import Model
from router.bar import Bar, Tally, Verdict
from router.bounds import lower_bound, upper_bound
from router.decision import Knowledge, Question
from router.difficulty import Difficulty
from router.evidence import Evidence, tally_of
from router.record import Observed, Record, Terms, new_record, observe, stand, tell
from router.sources import Source
from router.strategies.evidence_first import EvidenceFirst

TEMPLATES = 5
REQUESTS = 2_000  # of each template
SAFE_RATE = 0.95  # of the safe tier's answers are right
OFFSETS = (-0.1, -0.05, -0.02, -0.01, -0.001, 0.03, 0.06, 0.08)  # of true rates to the bar: most are under it
SWAP_CHANCE = 0.25  # that the adversary puts in a new version as soon as one is trusted
DECAY_CHANCE = 0.5  # that he lets it decay instead
DECAY = (-0.3, -0.15, -0.08)  # where to, from the bar
DECAY_AFTER_REQUESTS = 800  # of its own, at most
SHADOW_SHARE = 0.5  # of requests whose two answers are graded
LOST_SHARE = 0.1  # of these grades that never come
DELAY_REQUESTS = 400  # until an outcome comes, at most
TELLS = {True: 0.05, False: 0.08}  # chance that a caller tells of a right and of a wrong answer
TELLS_AGAIN = 0.1  # that he later says the opposite

# The alarm alone needs less than 33 after 99 of 100 changes, whatever their size from 0.04 to 0.5 (EXPERIMENTS.md, 15);
# that the outcomes come late is not excused.
CHANGE_OUTCOMES = 30
TOLERANCE = 0.02


class Judge(Protocol):
    """Somebody who decides whether the cheaper model may serve, and is told what became of it."""

    def trusts(self, template: str) -> bool: ...

    def learn(self, template: str, observed: Observed) -> None: ...


class Pointsman:
    """The decision code of the gateway, with what is learned at run time and nothing else."""

    name = "evidence at run time"

    def __init__(self, bar: Bar) -> None:
        self._terms = Terms(bar)
        self._records: dict[str, Record] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._knowledge = Knowledge((SMALL, LARGE), Evidence({}), Difficulty({}), {}, bar)

    def trusts(self, template: str) -> bool:
        return EvidenceFirst().decide(Question(template), self._knowledge).model == SMALL.name

    def learn(self, template: str, observed: Observed) -> None:
        record = self._records.get(template) or new_record(len(self._records) + 1)
        self._records[template] = record = observe(record, observed, self._terms)
        verdict, _ = stand(record, self._terms)
        if verdict is not self._verdicts.get(template):
            self._verdicts[template] = verdict
            learned = {**self._knowledge.learned, (template, SMALL.build): tell(record, self._terms)}
            self._knowledge = self._knowledge.learning(learned)


class FixedSize:
    """The bound for a sample of fixed size, looked at after every outcome. No error is shared, no change is watched."""

    name = "fixed-size bound"

    def __init__(self, bar: Bar) -> None:
        assert bar.pass_rate is not None, "the exact bound on a difference takes too long to be looked at so often"
        self._bar = bar
        self._tallies: dict[str, Tally] = {}

    def trusts(self, template: str) -> bool:
        tally = self._tallies.get(template, Tally())
        assert self._bar.pass_rate is not None
        return tally.passed >= _fewest_passed(tally.total, self._bar.pass_rate, self._bar.confidence)

    def learn(self, template: str, observed: Observed) -> None:
        if observed.source is Source.SUITE:
            before = self._tallies.get(template, Tally())
            self._tallies[template] = before + tally_of(observed.passed, observed.safe_passed)


class PlainAverage:
    """Trusted while the average holds the bar, from some outcomes on."""

    name = "plain average"
    fewest = 20

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tallies: dict[str, Tally] = {}

    def trusts(self, template: str) -> bool:
        tally = self._tallies.get(template, Tally())
        if tally.total < self.fewest:
            return False
        if self._bar.pass_rate is not None:
            return tally.passed >= self._bar.pass_rate * tally.total
        return tally.won - tally.lost >= -(self._bar.margin or 0) * tally.paired

    def learn(self, template: str, observed: Observed) -> None:
        if observed.source is Source.SUITE:
            before = self._tallies.get(template, Tally())
            self._tallies[template] = before + tally_of(observed.passed, observed.safe_passed)


Kind = type[Pointsman] | type[FixedSize] | type[PlainAverage]


def judges_of(bar: Bar) -> Sequence[Kind]:
    return (Pointsman, FixedSize, PlainAverage) if bar.pass_rate is not None else (Pointsman, PlainAverage)


@dataclass(slots=True)
class Version:
    """A template under one name. `value`: its true pass-rate or difference; `missing`: the sum of what it lacked to the
    bar in requests that the cheaper model served while claimed proved.
    """

    name: str
    value: float
    decays_at: int | None = None
    was_trusted: bool = False
    changes: int = 0
    served: int = 0
    missing: float = 0.0
    missing_beyond: float = 0.0  # the tolerance

    @property
    def is_broken(self) -> bool:
        if not self.changes:
            return self.missing > 0
        return self.missing_beyond * SHADOW_SHARE * (1 - LOST_SHARE) > self.changes * CHANGE_OUTCOMES


@dataclass(slots=True)
class Run:
    """`false`: a template that never changed was below its bar; `late`: one that changed was, for longer than promised.

    `worthy`: requests whose template's value was at least the bar; `served_worthy`: of these, by the cheaper model.
    """

    false: bool = False
    late: bool = False
    requests: int = 0
    worthy: int = 0
    served: int = 0
    served_worthy: int = 0

    @property
    def broken(self) -> bool:
        return self.false or self.late


def rehearse(judge: Judge, bar: Bar, random: Random, requests: int = REQUESTS) -> Run:
    """One run: TEMPLATES templates with so many requests each."""
    at_bar = bar.pass_rate if bar.pass_rate is not None else -(bar.margin or 0)
    run = Run()
    slots = [_fresh(f"{slot}", at_bar, random) for slot in range(TEMPLATES)]
    all_versions = list(slots)
    late: list[tuple[int, int, str, Observed]] = []
    for now in range(TEMPLATES * requests):
        while late and late[0][0] <= now:
            _, _, template, observed = heappop(late)
            judge.learn(template, observed)
        slot = random.randrange(TEMPLATES)
        version = slots[slot]
        trusted = judge.trusts(version.name)
        if trusted and not version.was_trusted:  # the adversary sees it, and acts before it is made use of
            version.was_trusted = True
            dice = random.random()
            if dice < SWAP_CHANCE:
                version = slots[slot] = _fresh(f"{slot}.{now}", at_bar, random)
                all_versions.append(version)
                trusted = judge.trusts(version.name)
            elif dice < SWAP_CHANCE + DECAY_CHANCE:
                version.decays_at = now + random.randrange(DECAY_AFTER_REQUESTS * TEMPLATES)
        if version.decays_at is not None and now >= version.decays_at:
            version.value, version.decays_at = at_bar + random.choice(DECAY), None
            version.changes += 1
        _count(run, version, trusted, at_bar)
        for comes_at, observed in _outcomes(version, trusted, bar, now, random):
            heappush(late, (comes_at, random.getrandbits(32), version.name, observed))
    run.false = any(v.is_broken for v in all_versions if not v.changes)
    run.late = any(v.is_broken for v in all_versions if v.changes)
    return run


@dataclass(slots=True)
class Rehearsed:
    """What became of all runs of one judge."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def broken(self) -> int:
        return sum(run.broken for run in self.runs)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share of broken runs, 95 %, exact (Clopper and Pearson)."""
        return lower_bound(self.broken, len(self.runs), 0.975), upper_bound(self.broken, len(self.runs), 0.975)

    def share(self, of: Callable[[Run], int], among: Callable[[Run], int]) -> float:
        return sum(map(of, self.runs)) / max(1, sum(map(among, self.runs)))


def rehearse_all(
    bar: Bar,
    runs: Iterable[int],
    on_run: Callable[[str], None],
    *,
    requests: int = REQUESTS,
    judges: Sequence[Kind] | None = None,
) -> Mapping[str, Rehearsed]:
    """Every judge in the runs of these numbers; a number is the seed of its run. *on_run* is told the judge's name."""
    kinds = judges_of(bar) if judges is None else judges
    done = {kind.name: Rehearsed(kind.name) for kind in kinds}
    for number in runs:
        for kind in kinds:
            done[kind.name].runs.append(rehearse(kind(bar), bar, Random(number), requests))  # noqa: S311  # a simulation
            on_run(kind.name)
    return done


def _fresh(name: str, at_bar: float, random: Random) -> Version:
    return Version(name, min(SAFE_RATE + 0.04, at_bar + random.choice(OFFSETS)))


def _count(run: Run, version: Version, trusted: bool, at_bar: float) -> None:
    worthy = version.value >= at_bar
    run.requests += 1
    run.worthy += worthy
    if trusted:
        run.served += 1
        run.served_worthy += worthy
        version.served += 1
        version.missing += max(0.0, at_bar - version.value)
        version.missing_beyond += max(0.0, at_bar - TOLERANCE - version.value)


def _outcomes(version: Version, trusted: bool, bar: Bar, now: int, random: Random) -> Sequence[tuple[int, Observed]]:
    """What will be told of this request, and when."""
    rate = version.value if bar.pass_rate is not None else SAFE_RATE + version.value
    safe_passed = random.random() < SAFE_RATE
    passed = random.random() < rate
    coming = []
    if random.random() < SHADOW_SHARE * (1 - LOST_SHARE):
        at = now + random.randrange(DELAY_REQUESTS)
        coming.append((at, Observed(Source.SUITE, passed, now, at, safe_passed)))
    if trusted and random.random() < TELLS[passed]:
        at = now + random.randrange(DELAY_REQUESTS)
        coming.append((at, Observed(Source.FEEDBACK, passed, now, at)))
        if random.random() < TELLS_AGAIN:
            again = at + 1 + random.randrange(DELAY_REQUESTS)
            coming.append((again, Observed(Source.FEEDBACK, not passed, now, again, was=passed)))
    return coming


@lru_cache(maxsize=100_000)
def _fewest_passed(total: int, rate: float, confidence: float) -> int:
    """How many of *total* must have passed for the bound of a fixed size to hold *rate*; may be more than all."""
    if total == 0:
        return 1
    fewest = _fewest_passed(total - 1, rate, confidence)
    return fewest if lower_bound(fewest, total, confidence) >= rate else fewest + 1


SMALL = Model(name="small", engine="scripted", tier=0, context_tokens=1000)
LARGE = Model(name="large", engine="scripted", tier=1, context_tokens=1000)
