"""A made-up world to route in: models, prompt ids of a wanted split, outcomes, and solve models of one feature."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import count, islice

from models.catalog import Model, Price, Speed
from router.bar import Bar, Tally
from router.decision import Knowledge, Question
from router.difficulty import Difficulty, SolveModel
from router.evidence import Evidence
from router.features import FEATURES
from router.ladder import Split, split_of
from router.looks import Looks
from router.outcomes import Outcome
from router.trust import Threshold

ZEROS = (0.0,) * len(FEATURES)
ONES = (1.0,) * len(FEATURES)
TEMPLATES = ("template", "odd", "easy", "hard")


def model(name: str, tier: int, *, usd: int | None = 1, tokens_per_second: float | None = 100.0) -> Model:
    """One price for a million tokens in and out, one speed for both."""
    speed = None
    if tokens_per_second is not None:
        speed = Speed(prompt_tokens_per_second=tokens_per_second, completion_tokens_per_second=tokens_per_second)
    return Model(
        name=name,
        engine="scripted",
        tier=tier,
        context_tokens=1000,
        price=None if usd is None else Price(input_usd=Decimal(usd), output_usd=Decimal(usd)),
        speed=speed,
    )


SMALL, MIDDLE, LARGE = model("small", 0), model("middle", 1, usd=4), model("large", 2, usd=10, tokens_per_second=20.0)
THREE = (SMALL, MIDDLE, LARGE)


def ids(split: Split, number: int) -> list[str]:
    """The first *number* prompt ids that fall into *split*."""
    return list(islice(_ids(split), number))


def _ids(split: Split) -> Iterator[str]:
    return (f"prompt-{place}" for place in count() if split_of(f"prompt-{place}") is split)


def outcome(
    prompt_id: str,
    of: Model,
    correct: bool,
    *,
    task: str = "task",
    template: str = "template",
    prompt_tokens: int = 90,
    completion_tokens: int = 10,
) -> Outcome:
    return Outcome(
        prompt_id=prompt_id,
        task=task,
        template=template,
        model=of.name,
        build=of.build,
        correct=correct,
        finish_reason="stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        mean_logprob=-0.25,
        min_logprob=-1.5,
        mean_margin=2.0,
    )


def looks(value: float) -> Looks:
    """Features of which only the first differs from 0, and no words."""
    return Looks((value, *ZEROS[1:]))


def asked(template: str | None, looks: Looks) -> Question:
    return Question(template, lambda: looks)


def solves(bias: float, weight: float = 0.0) -> SolveModel:
    """P = sigmoid(bias + weight * the first feature); fitted on TEMPLATES, none of which differs from the others."""
    return SolveModel(bias, (weight, *ZEROS[1:]), ZEROS, ONES, offsets=dict.fromkeys(TEMPLATES, 0.0))


def knowledge(
    bar: Bar,
    tallies: Mapping[tuple[str, Model], Tally] | None = None,
    *,
    solve_models: Mapping[Model, SolveModel] | None = None,
    trusted_from: Mapping[Model, float] | None = None,
    models: tuple[Model, ...] = THREE,
) -> Knowledge:
    """*tallies* by template and model; *trusted_from* is each model's threshold."""
    return Knowledge(
        models=models,
        evidence=Evidence({(template, m.build): tally for (template, m), tally in (tallies or {}).items()}),
        difficulty=Difficulty({m.build: solve_model for m, solve_model in (solve_models or {}).items()}),
        thresholds={m.build: Threshold(score, "was counted") for m, score in (trusted_from or {}).items()},
        bar=bar,
    )
