"""What each way to choose was worth on ladder prompts that went through a gateway. Pure: answers in, figures out.

`document_of` is the JSON that `pointsman router ladder --json` writes:

    {"object": "router.ladder",
     "ladder": file, "url": address, "answers": file of the single answers (JSON lines, `router.through.Passed`),
     "models": [{"name", "build", "tier", "logprobs"}, ...],    from the cheapest tier to the safe one
     "left_out": prompts that the router has learned from, which are not asked unless --all says so,
     "parallel": answers asked for at a time, "watts": the setting, or null,
     "ways": [WAY, ...], "difference": DIFFERENCE,
     "tasks": [{"task", "ways": [WAY, ...], "difference": DIFFERENCE}, ...]}

    WAY: {"way": "auto" or a model's name, "prompts", "right", "accuracy": 0 to 1,
     "interval": [low, high]                 95 %, two-sided, exact (Clopper and Pearson)
     "large_share": 0 to 1                   of the prompts, those that the safe tier answered
     "prompt_tokens", "completion_tokens"    of the answers that the caller saw
     "discarded_tokens", "cost_usd"          of all, as the ledger has them; null where it does not have every request
     "seconds_p50"                           median, from sending to the whole answer
     "energy_wh"                             an ESTIMATE: all seconds x watts / parallel; null without --watts
     "refused"                               prompts that the gateway refused (counted as not right)
     "answered_by": {model: prompts}, "bases": {basis: prompts}}

    DIFFERENCE, of auto to the safe tier alone on the same prompts, or null where that was not asked:
    {"to": name, "pairs", "won", "lost", "difference": (won - lost) / pairs,
     "interval": [low, high]                 95 %, two-sided, exact (`router.bounds.difference_lower_bound`)}
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from statistics import median
from typing import Any

from models.catalog import AUTO
from router.bounds import difference_lower_bound, difference_upper_bound, lower_bound, upper_bound
from router.through import Offer, Passed

ONE_SIDED = 0.975  # two bounds of it make an interval of 95 %
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Spent:
    """What the ledger says of one request; None for unknown."""

    cost_usd: Decimal | None
    discarded_tokens: int | None


@dataclass(frozen=True, slots=True)
class Way:
    """See the module's docstring."""

    way: str
    prompts: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    large_share: float
    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int | None
    cost_usd: Decimal | None
    seconds_p50: float
    energy_wh: float | None
    refused: int
    answered_by: Mapping[str, int]
    bases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    to: str
    pairs: int
    won: int
    lost: int
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`task` is None for all of them together."""

    task: str | None
    ways: Sequence[Way]
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Terms:
    """How the answers were got. `watts`: what the machine draws while it answers, None where nobody said."""

    offer: Offer
    parallel: int
    watts: float | None = None


def compare(answers: Iterable[Passed], spent: Mapping[str, Spent], terms: Terms) -> list[Comparison]:
    """All tasks together first, then each. *spent* by request id."""
    kept = list(answers)
    tasks = [None, *sorted({a.task for a in kept})]
    return [_comparison(task, [a for a in kept if task in (None, a.task)], spent, terms) for task in tasks]


def document_of(comparisons: Sequence[Comparison], terms: Terms) -> dict[str, Any]:
    """The part of the JSON that this module knows."""
    whole, *tasks = comparisons
    return {
        "models": [asdict(model) for model in terms.offer.models],
        "parallel": terms.parallel,
        "watts": terms.watts,
        "ways": [_written(way) for way in whole.ways],
        "difference": asdict(whole.difference) if whole.difference else None,
        "tasks": [
            {
                "task": one.task,
                "ways": [_written(way) for way in one.ways],
                "difference": asdict(one.difference) if one.difference else None,
            }
            for one in tasks
        ],
    }


def _written(way: Way) -> dict[str, Any]:
    return {**asdict(way), "cost_usd": None if way.cost_usd is None else float(way.cost_usd)}


def _comparison(task: str | None, answers: Sequence[Passed], spent: Mapping[str, Spent], terms: Terms) -> Comparison:
    names = [AUTO, *(model.name for model in terms.offer.models)]
    by_way = {name: [a for a in answers if a.way == name] for name in names}
    ways = [_way(name, of, spent, terms) for name, of in by_way.items() if of]
    return Comparison(task, ways, _difference(by_way[AUTO], by_way[terms.offer.safe.name], terms.offer.safe.name))


def _way(name: str, answers: Sequence[Passed], spent: Mapping[str, Spent], terms: Terms) -> Way:
    right, count = sum(a.correct for a in answers), len(answers)
    known = [spent[a.request_id] for a in answers if a.request_id is not None and a.request_id in spent]
    costs = [one.cost_usd for one in known if one.cost_usd is not None]
    seconds = [a.seconds for a in answers]
    busy_seconds = sum(seconds) / terms.parallel
    return Way(
        way=name,
        prompts=count,
        right=right,
        accuracy=right / count,
        interval=(lower_bound(right, count, ONE_SIDED), upper_bound(right, count, ONE_SIDED)),
        large_share=sum(a.model == terms.offer.safe.name for a in answers) / count,
        prompt_tokens=sum(a.prompt_tokens or 0 for a in answers),
        completion_tokens=sum(a.completion_tokens or 0 for a in answers),
        discarded_tokens=sum(one.discarded_tokens or 0 for one in known) if len(known) == count else None,
        cost_usd=sum(costs, Decimal(0)) if len(costs) == count else None,
        seconds_p50=median(seconds),
        energy_wh=None if terms.watts is None else busy_seconds * terms.watts / SECONDS_PER_HOUR,
        refused=sum(a.refused is not None for a in answers),
        answered_by=dict(Counter(a.model for a in answers if a.model and a.refused is None)),
        bases=dict(Counter(a.basis for a in answers if a.basis)),
    )


def _difference(auto: Sequence[Passed], safe: Sequence[Passed], to: str) -> Difference | None:
    safe_was_right = {a.prompt_id: a.correct for a in safe}
    pairs = [(a.correct, safe_was_right[a.prompt_id]) for a in auto if a.prompt_id in safe_was_right]
    if not pairs:
        return None
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    interval = (
        difference_lower_bound(lost, won, len(pairs), ONE_SIDED),
        difference_upper_bound(lost, won, len(pairs), ONE_SIDED),
    )
    return Difference(to, len(pairs), won, lost, (won - lost) / len(pairs), interval)
