"""What leaving pages out costs: teacher-forced likelihood of a text, and numbers found that are hidden in it.

A model reads a long prefix densely and then what follows as decode steps would (`models.sparse.reading`). The prefix is
read once, and every policy goes on from it, so differences are the policies' alone.
"""

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from models.sparse import reading
from models.sparse.budget import Budget
from router.bar import Tally
from router.bounds import difference_lower_bound, wilson_interval
from router.evidence import tally_of
from tests.bench.sparse.table import Table

ROOT = Path(__file__).parents[3]
TEXTS = ("EXPERIMENTS.md", "DECISIONS.md", "README.md")  # ours: in no model's training data
FORCED_TOKENS = 256  # of the text, whose likelihood is taken
SAME_TOKENS = "dense"
CONFIDENCE, Z = 0.95, 1.96  # of all intervals


@dataclass(frozen=True, slots=True)
class Policy:
    """How a decode step reads. *window*: the sink and as many of the newest as the budget holds, whatever is asked."""

    name: str
    budget: Budget | None = None
    window: bool = False


DENSE = Policy(SAME_TOKENS)


class Reader:
    """A model that reads a prefix and goes on from it as often as asked, and its tokenizer."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
        self.tokens = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        reading.prepare(self.model)

    def ids(self, text: str) -> list[int]:
        return list(self.tokens.encode(text, add_special_tokens=False))

    def read(self, ids: Sequence[int]) -> DynamicCache:
        return reading.read(self.model, torch.tensor(ids))

    def go_on(self, cache: DynamicCache, ids: Sequence[int], policy: Policy = DENSE) -> torch.Tensor:
        """Log-probabilities (len(ids), vocabulary) of what follows each of *ids*; *cache* is left longer."""
        return reading.steps(self.model, cache, torch.tensor(ids), policy.budget, window=policy.window)


def likelihood(reader: Reader, contexts: Sequence[int], policies: Sequence[Policy], places: int) -> Table:
    ids = reader.ids(own_text())
    table = Table(
        f"Likelihood of {places} x {FORCED_TOKENS} tokens of text after a context, each read as a decode step reads",
        ("context", "policy", "nats a token", "perplexity", "against dense", "same best token"),
    )
    for context in contexts:
        said: dict[str, list[torch.Tensor]] = {policy.name: [] for policy in policies}
        targets = []
        for place in range(places):
            start = place * (len(ids) - context - 1) // max(1, places - 1)
            window = ids[start : start + context + 1]
            cache = reader.read(window[: context - FORCED_TOKENS])
            targets.append(torch.tensor(window[-FORCED_TOKENS:]))
            for policy in policies:
                said[policy.name].append(reader.go_on(cache, window[context - FORCED_TOKENS : context], policy))
                reading.back_to(cache, context - FORCED_TOKENS)
        target = torch.cat(targets)
        dense = torch.cat(said[SAME_TOKENS])
        for policy in policies:
            logs = torch.cat(said[policy.name])
            nats = -logs.gather(1, target[:, None])[:, 0]
            worse = nats + dense.gather(1, target[:, None])[:, 0]
            error = Z * float(worse.std()) / math.sqrt(len(worse))
            same = float((logs.argmax(-1) == dense.argmax(-1)).float().mean())
            table.add(
                context,
                policy.name,
                f"{nats.mean():.4f}",
                f"{nats.mean().exp():.3f}",
                f"{worse.mean():+.4f} +- {error:.4f}",
                f"{same:.1%}",
            )
    return table


def retrieval(reader: Reader, contexts: Sequence[int], policies: Sequence[Policy], questions: int, texts: int) -> Table:
    """Many keys in one context; each question asks for one, wherever it lies. An answer is right in every token."""
    table = Table(
        f"Numbers hidden in {texts} texts, {questions} in each: right answers, and the points that may be lost at most",
        (
            "context",
            "policy",
            "answer sparse",
            "Wilson",
            "lost at most",
            "question sparse too",
            "Wilson",
            "lost at most",
        ),
    )
    for context in contexts:
        right: dict[str, tuple[list[bool], list[bool]]] = {policy.name: ([], []) for policy in policies}
        for text in range(texts):
            facts, prefix = hidden(reader, context, questions, text)
            cache = reader.read(prefix)
            for who, number in facts:
                question = reader.ids(
                    f"\nQuestion: What is the secret number of {who}?\nAnswer: The secret number of {who} is"
                )
                answer = reader.ids(f" {number}")
                read, asked = len(prefix) + len(question), question + answer[:-1]
                dense = reader.go_on(cache, asked)[-len(answer) :]
                for policy in policies:
                    reading.back_to(cache, read)
                    later = reader.go_on(cache, answer[:-1], policy) if policy.budget else dense[1:]
                    right[policy.name][0].append(is_right(torch.cat([dense[:1], later]), answer))
                for policy in policies:
                    reading.back_to(cache, len(prefix))
                    whole = reader.go_on(cache, asked, policy)[-len(answer) :] if policy.budget else dense
                    right[policy.name][1].append(is_right(whole, answer))
                reading.back_to(cache, len(prefix))
            print(f"{context} tokens: {text + 1} of {texts} texts", file=sys.stderr, flush=True)
        for policy in policies:
            pairs = zip(right[policy.name], right[SAME_TOKENS], strict=True)
            table.add(context, policy.name, *(cell for mine, dense in pairs for cell in counted(mine, dense)))
    return table


def counted(right: Sequence[bool], dense: Sequence[bool]) -> tuple[str, str, str]:
    """Right answers, their share's interval of 95 %, and the points below *dense* that they are at most, with 95 %."""
    seen = sum(map(tally_of, right, dense), Tally())
    low, high = wilson_interval(seen.passed, seen.total, CONFIDENCE)
    at_most = -100 * difference_lower_bound(seen.lost, seen.won, seen.paired, CONFIDENCE)
    return (
        f"{seen.passed}/{seen.total}",
        f"{low:.1%} to {high:.1%}",
        f"{at_most:.1f} ({seen.lost} lost, {seen.won} won)",
    )


def is_right(said: torch.Tensor, answer: Sequence[int]) -> bool:
    """Whether the likeliest tokens of *said* (tokens, vocabulary) are the *answer*."""
    return bool(said.argmax(-1).tolist() == list(answer))


def hidden(reader: Reader, context: int, count: int, seed: int) -> tuple[list[tuple[str, int]], list[int]]:
    """*count* facts, strewn evenly over *context* tokens of text, and these tokens. Each *seed* has text of its own."""
    numbers = random.Random(seed)
    names = ["Ada", "Boris", "Chen", "Dina", "Emil", "Fatou", "Goran", "Hana", "Ivan", "Jose", "Kim", "Lena"]
    own = reader.ids(own_text())
    start = seed * context % len(own)
    text = iter(own[start:] + own[:start])
    facts: list[tuple[str, int]] = []
    ids: list[int] = []
    for place in range(count):
        who, number = f"{names[place % len(names)]} {chr(ord('A') + place // len(names))}.", numbers.randint(1000, 9999)
        facts.append((who, number))
        ids += reader.ids(f"\nThe secret number of {who} is {number}.\n")
        ids += islice(text, max(0, context * (place + 1) // count - len(ids)))
    return facts, ids[:context]


def own_text() -> str:
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in TEXTS)


def policies(budgets: Sequence[int], page_tokens: int, dense_layers: int) -> list[Policy]:
    found = [DENSE]
    for tokens in budgets:
        budget = Budget(tokens, page_tokens=page_tokens, dense_layers=dense_layers, dense_below_tokens=tokens + 1)
        found.append(Policy(f"pages {tokens}", budget))
    return [*found, Policy(f"window {budgets[-1]}", found[-1].budget, window=True)]
