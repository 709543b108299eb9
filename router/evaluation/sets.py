"""Which sets are judged: what tables, which small and large model, what is left out. Makes a sample of each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.evaluation.samples import Answers, Costs, Outcomes, Prompts, Sample, texts
from router.evaluation.tables import Floats, OutcomeTable
from router.evaluation.views import KnownViews, Views

MIXTRAL, GPT_4 = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
LLAMA_8B, LLAMA_70B = "Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct"
GEMMA_2B, GPT_4O = "gemma-2-2b-it", "gpt-4o-2024-08-06"
MMLU_PRO = "mmlu_pro_cot"
GSM8K, MATH, CRUX = "zeroeval_gsm8k", "zeroeval_math_l5", "zeroeval_crux"
SMALL_FACTOR = 1.5  # a model of up to 1.5 times the small one's parameters is a small one, too
MILLION_TOKENS = 1e6


@dataclass(frozen=True, slots=True)
class Set:
    """A pair of models on *tables*. Where `left_out` is set, that table alone is judged, and never fitted on."""

    name: str
    tables: tuple[str, ...]
    small: str
    large: str
    left_out: str | None = None

    @property
    def judged(self) -> tuple[str, ...]:
        return (self.left_out,) if self.left_out else self.tables

    @property
    def fitted(self) -> tuple[str, ...]:
        return tuple(name for name in self.tables if name != self.left_out)


MIX4 = (MMLU_PRO, GSM8K, MATH, CRUX)
SETS = (
    Set("mmlu", ("routellm_mmlu",), MIXTRAL, GPT_4),
    Set("gsm8k", ("routellm_gsm8k",), MIXTRAL, GPT_4),
    Set("mmlu-pro", (MMLU_PRO,), LLAMA_8B, LLAMA_70B),
    Set("mix4", MIX4, LLAMA_8B, LLAMA_70B),
    Set("mix3", (GSM8K, MATH, CRUX), LLAMA_8B, GPT_4O),
    Set("gsm8k-2b", (GSM8K,), GEMMA_2B, GPT_4O),
    Set("loo-mmlu-pro", MIX4, LLAMA_8B, LLAMA_70B, left_out=MMLU_PRO),
    Set("loo-gsm8k", MIX4, LLAMA_8B, LLAMA_70B, left_out=GSM8K),
    Set("loo-math", MIX4, LLAMA_8B, LLAMA_70B, left_out=MATH),
    Set("loo-crux", MIX4, LLAMA_8B, LLAMA_70B, left_out=CRUX),
)
NAMED = frozenset(table for one in SETS for table in one.tables)


def sets_of(train: Mapping[str, OutcomeTable], judged: Mapping[str, OutcomeTable]) -> list[Set]:
    """The known sets whose tables are there, then one per table that no known set names: the model with the best mean
    score on *train* against the cheapest one.
    """
    known = [s for s in SETS if all(t in train for t in s.fitted) and all(t in judged for t in s.judged)]
    return known + [_own(train[name]) for name in sorted(train) if name not in NAMED and name in judged]


def sample(one: Set, tables: tuple[str, ...], read: Mapping[str, OutcomeTable], views: Mapping[str, Views]) -> Sample:
    """The prompts of *tables* that both models of the pair have answered. Raises TableError for a missing model."""
    parts = [_part(one, read[name], views[name]) for name in tables]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _part(one: Set, table: OutcomeTable, views: Views) -> Sample:
    small, large = table.column(one.small), table.column(one.large)
    rows = np.flatnonzero(np.isfinite(table.scores[:, small]) & np.isfinite(table.scores[:, large]))
    helpers = _small_models(table, one.small)
    unit, cost = _costs(table, [small, large])
    prompts = Prompts(
        ids=texts(table.prompt_ids)[rows],
        texts=texts(table.prompts)[rows],
        templates=texts([f"{table.name}/{template}" for template in table.templates])[rows],
        tables=texts([table.name] * len(rows)),
        views=views.take(rows),
        small=one.small,
        answers={m: _answers(table, m).take(rows) for m in helpers},
    )
    outcomes = Outcomes(table.scores[rows, small], table.scores[rows, large], table.scores[rows], table.models)
    by_model = {m: _cost_of_helper(table, cost, m)[rows] for m in helpers}
    return Sample(prompts, outcomes, Costs(unit, cost[rows, small], cost[rows, large], by_model))


def _joined(parts: list[Sample]) -> Sample:
    """Models that not every table has are unknown there."""
    answers = sorted({name for part in parts for name in part.prompts.answers})
    models = tuple(sorted({name for part in parts for name in part.outcomes.models}))
    units = {part.costs.unit for part in parts}

    def nowhere(part: Sample) -> Answers:
        return Answers(texts([None] * len(part)), np.full(len(part), np.nan))

    def answers_of(name: str) -> Answers:
        found = [part.prompts.answers.get(name) or nowhere(part) for part in parts]
        return Answers(np.concatenate([a.texts for a in found]), np.concatenate([a.tokens for a in found]))

    def others(part: Sample) -> Floats:
        made = np.full((len(part), len(models)), np.nan)
        made[:, [models.index(name) for name in part.outcomes.models]] = part.outcomes.others
        return made

    def cost_of(name: str) -> Floats:
        return np.concatenate([part.costs.by_model.get(name, np.zeros(len(part))) for part in parts])

    def comparable(costs: list[Floats]) -> Floats:
        joined = np.concatenate(costs)
        return joined if len(units) == 1 else np.full(len(joined), np.nan)

    return Sample(
        Prompts(
            ids=np.concatenate([p.prompts.ids for p in parts]),
            texts=np.concatenate([p.prompts.texts for p in parts]),
            templates=np.concatenate([p.prompts.templates for p in parts]),
            tables=np.concatenate([p.prompts.tables for p in parts]),
            views=KnownViews.joined([p.prompts.views for p in parts]),
            small=parts[0].prompts.small,
            answers={name: answers_of(name) for name in answers},
        ),
        Outcomes(
            np.concatenate([p.outcomes.small for p in parts]),
            np.concatenate([p.outcomes.large for p in parts]),
            np.concatenate([others(p) for p in parts]),
            models,
        ),
        Costs(
            parts[0].costs.unit,
            comparable([p.costs.small for p in parts]),
            comparable([p.costs.large for p in parts]),
            {name: cost_of(name) for name in answers},
        ),
    )


def _small_models(table: OutcomeTable, small: str) -> list[str]:
    """The small model and those of about its size that left answers; just the small one where its size is unknown."""
    size = table.params_b[table.column(small)]
    fits = np.isfinite(table.params_b) & (table.params_b <= SMALL_FACTOR * size)
    answered = np.array([any(a is not None for a in table.answers[:, i]) for i in range(len(table.models))])
    return [name for i, name in enumerate(table.models) if answered[i] and (fits[i] or name == small)]


def _answers(table: OutcomeTable, model: str) -> Answers:
    place = table.column(model)
    tokens = np.where(np.isfinite(table.scores[:, place]), table.completion_tokens[:, place], np.nan)
    return Answers(table.answers[:, place], tokens)


def _costs(table: OutcomeTable, pair: list[int]) -> tuple[str, Floats]:
    """Recorded dollars where the pair's calls have them; else parameters (billions) times tokens (millions), in and out
    alike. NaN where neither is known: a model behind an API that does not say its size.
    """
    if np.isfinite(table.cost_usd[:, pair]).any():
        return "USD", table.cost_usd
    tokens = table.prompt_tokens + table.completion_tokens
    return "billion parameters x million tokens", table.params_b * tokens / MILLION_TOKENS


def _cost_of_helper(table: OutcomeTable, cost: Floats, model: str) -> Floats:
    """Nothing for a prompt that it did not answer: there it was not called."""
    place = table.column(model)
    return np.where(np.isfinite(table.scores[:, place]), cost[:, place], 0.0)


def _own(table: OutcomeTable) -> Set:
    quality = np.nanmean(table.scores, axis=0)
    priced = np.isfinite(table.cost_usd).any(axis=0)
    price = (
        np.nanmean(table.cost_usd, axis=0)
        if priced.all()
        else np.where(np.isfinite(table.params_b), table.params_b, np.inf)
    )
    large = int(np.argmax(quality))
    others = [i for i in range(len(table.models)) if i != large] or [large]
    small = min(others, key=lambda i: (price[i], quality[i]))
    return Set(table.name, (table.name,), table.models[small], table.models[large])
