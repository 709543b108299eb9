"""What routing is worth: accuracy, share of large calls, cost and time on prompts that nothing was fitted on.

Replays recorded answers through the real strategy; calls nothing. Cost and time are those of each answer's tokens at
the catalogue's measured speeds, so that the table is the same on every machine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from models.catalog import Model
from models.engine import Usage
from router.bounds import lower_bound, upper_bound
from router.decision import Basis, Decision, Knowledge, Question, Strategy
from router.ladder import Split, split_of
from router.looks import Looks
from router.opinion import SecondOpinion, agree
from router.outcomes import Outcome

INTERVAL_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Row:
    """One way to choose. Times in seconds and cost in US dollars per prompt; the interval is 95 %, two-sided, exact."""

    name: str
    prompts: int
    accuracy: float
    interval: tuple[float, float] | None
    large_share: float
    cost_usd: Decimal
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What `auto` did with one task: `bases` counts its decisions by what they rest on."""

    task: str
    prompts: int
    small_accuracy: float
    large_accuracy: float
    auto_accuracy: float
    large_share: float
    bases: Mapping[Basis, int]


@dataclass(frozen=True, slots=True)
class Report:
    rows: Sequence[Row]
    tasks: Sequence[TaskRow]


@dataclass(frozen=True, slots=True)
class _Tried:
    """One test prompt with the recorded outcome of every model."""

    question: Question
    task: str
    outcomes: Mapping[str, Outcome]


def report(
    outcomes: Iterable[Outcome],
    looks: Mapping[str, Looks],
    strategy: Strategy,
    knowledge: Knowledge,
) -> Report:
    """Compare *strategy* with its ends on the TEST prompts that every model of *knowledge* has answered.

    Raises ValueError when there are none, or when a model has no price or speed.
    """
    tried = _tried(outcomes, looks, knowledge)
    if not tried:
        names = ", ".join(model.name for model in knowledge.models)
        raise ValueError(f"no test prompt was answered by all of {names}; collect more with: pointsman ladder collect")
    small, large = knowledge.models[0], knowledge.safe
    decisions = [strategy.decide(t.question, knowledge) for t in tried]
    called = [_called(decision, t) for decision, t in zip(decisions, tried, strict=True)]
    auto = [models[-1] for models in called]
    ends = [
        _row(f"always {small.name}", tried, [(small.name,)] * len(tried), knowledge),
        _row(f"always {large.name}", tried, [(large.name,)] * len(tried), knowledge),
    ]
    auto_row = _row("auto", tried, called, knowledge)
    rows = [*ends, _random(ends[0], ends[1], auto_row), auto_row]
    tasks = []
    for task in sorted({t.task for t in tried}):
        places = [i for i, t in enumerate(tried) if t.task == task]
        inside = [tried[i] for i in places]
        chosen = [auto[i] for i in places]
        bases = [decisions[i].basis for i in places]
        tasks.append(
            TaskRow(
                task=task,
                prompts=len(places),
                small_accuracy=_accuracy(inside, [small.name] * len(places)),
                large_accuracy=_accuracy(inside, [large.name] * len(places)),
                auto_accuracy=_accuracy(inside, chosen),
                large_share=chosen.count(large.name) / len(places),
                bases={basis: bases.count(basis) for basis in Basis if basis in bases},
            )
        )
    return Report(rows, tasks)


def _tried(outcomes: Iterable[Outcome], looks: Mapping[str, Looks], knowledge: Knowledge) -> list[_Tried]:
    builds = {model.build: model.name for model in knowledge.models}
    by_prompt: dict[str, dict[str, Outcome]] = {}
    for outcome in outcomes:
        if outcome.build in builds and split_of(outcome.prompt_id) is Split.TEST:
            by_prompt.setdefault(outcome.prompt_id, {})[builds[outcome.build]] = outcome
    tried = []
    for prompt_id, answers in sorted(by_prompt.items()):
        if len(answers) == len(builds):
            one = next(iter(answers.values()))
            question = Question(one.template, partial(looks.__getitem__, prompt_id), checkable=True)
            tried.append(_Tried(question, one.task, answers))
    return tried


def _called(decision: Decision, tried: _Tried) -> tuple[str, ...]:
    """The models whose answers are made, the one that is shown last: another where the first one's fails its check."""
    first, *others = decision.order
    if decision.second is not None:
        agreed = agree(tried.outcomes[first], tried.outcomes[decision.second])
        return (decision.second, first) if agreed else (decision.second, first, others[0])
    assert not isinstance(decision.check, SecondOpinion)
    if decision.check is None or decision.check.passes(tried.outcomes[first].signals):
        return (first,)
    return first, others[0]


def _row(name: str, tried: Sequence[_Tried], called: Sequence[tuple[str, ...]], knowledge: Knowledge) -> Row:
    chosen = [models[-1] for models in called]
    right = sum(t.outcomes[model].correct for t, model in zip(tried, chosen, strict=True))
    one_sided = (1 + INTERVAL_CONFIDENCE) / 2
    models = {model.name: model for model in knowledge.models}
    answers = [(models[name], t.outcomes[name]) for t, names in zip(tried, called, strict=True) for name in names]
    return Row(
        name=name,
        prompts=len(tried),
        accuracy=right / len(tried),
        interval=(lower_bound(right, len(tried), one_sided), upper_bound(right, len(tried), one_sided)),
        large_share=chosen.count(knowledge.safe.name) / len(tried),
        cost_usd=sum((_cost_usd(model, o) for model, o in answers), Decimal(0)) / len(tried),
        seconds=sum(_seconds(model, o) for model, o in answers) / len(tried),
    )


def _random(small: Row, large: Row, like: Row) -> Row:
    """What a coin would reach that costs as much as *like* on average: a point on the line between the ends.

    Where the ends cost the same, it is the coin that calls the large one as often.
    """
    spread_usd = large.cost_usd - small.cost_usd
    share = float((like.cost_usd - small.cost_usd) / spread_usd) if spread_usd else like.large_share

    def between(value: Callable[[Row], float]) -> float:
        return value(small) + share * (value(large) - value(small))

    return Row(
        name="random at the cost of auto",
        prompts=like.prompts,
        accuracy=between(lambda row: row.accuracy),
        interval=None,
        large_share=share,
        cost_usd=like.cost_usd,
        seconds=between(lambda row: row.seconds),
    )


def _accuracy(tried: Sequence[_Tried], chosen: Sequence[str]) -> float:
    return sum(t.outcomes[model].correct for t, model in zip(tried, chosen, strict=True)) / len(tried)


def _cost_usd(model: Model, outcome: Outcome) -> Decimal:
    cost_usd = model.expected_cost_usd(Usage(outcome.prompt_tokens, outcome.completion_tokens))
    if cost_usd is None:
        raise ValueError(f"{model.name} has no price, or no speed to turn tokens into hours; see the catalogue")
    return cost_usd


def _seconds(model: Model, outcome: Outcome) -> float:
    if model.speed is None:
        raise ValueError(f"{model.name} has no speed to turn tokens into seconds; see the catalogue")
    prompt_seconds = outcome.prompt_tokens / model.speed.prompt_tokens_per_second
    return prompt_seconds + outcome.completion_tokens / model.speed.completion_tokens_per_second
