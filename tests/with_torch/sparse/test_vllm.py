"""Real vLLM with our backend: what it says is what the definition says, whoever shares the step.

The model is a Llama of three layers with random weights, large enough that attention is far from even. What it should
say is computed by transformers, with `models.sparse.reference` choosing the pages.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.sparse import reading
from models.sparse.budget import Budget, budget_from
from models.sparse.plugin import ACTIVE

TOKENS = 10
VOCABULARY = 500
START_SECONDS = 600  # ten to twenty on an idle machine
ROUNDING = 2e-3  # of log-probabilities; float32 throughout
ENVIRONMENT = {
    "POINTSMAN_SPARSE_BUDGET_TOKENS": "256",
    "POINTSMAN_SPARSE_RECENT_TOKENS": "64",
    "POINTSMAN_SPARSE_DENSE_BELOW_TOKENS": "300",
    "POINTSMAN_SPARSE_DENSE_LAYERS": "1",
}
OTHERS = ("POINTSMAN_SPARSE", "TRITON_INTERPRET")  # of the environment: what other tests or a person may have set
ENGINE = {"dtype": "float32", "max_model_len": 1024, "max_num_batched_tokens": 128, "enable_prefix_caching": True}

pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]  # of vLLM's and transformers' own

Said = list[list[tuple[int, float]]]


@dataclass(frozen=True, slots=True)
class Model:
    folder: Path
    prompts: list[list[int]]  # below the threshold, above it, far above it

    def asked(self, calls: list[list[list[int]]], environment: dict[str, str], **engine: Any) -> tuple[list[Said], str]:
        """What vLLM says to *calls*, and its log. Raises CalledProcessError, whose output is the log."""
        question = {"engine": {**ENGINE, "model": str(self.folder), **engine}, "tokens": TOKENS, "calls": calls}
        done = subprocess.run(
            [sys.executable, "-m", "tests.with_torch.sparse.generate"],
            input=json.dumps(question),
            env={**{k: v for k, v in os.environ.items() if not k.startswith(OTHERS)}, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_SECONDS,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1]), done.stdout

    def should_say(self, prompt: list[int], said: list[tuple[int, float]], budget: Budget | None) -> torch.Tensor:
        """The log-probabilities of the tokens *said* after *prompt*, each read under *budget*."""
        model = LlamaForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        reading.prepare(model)
        cache = reading.read(model, torch.tensor(prompt[:-1]))
        tokens = torch.tensor([token for token, _ in said])
        first = reading.steps(model, cache, torch.tensor(prompt[-1:]))
        rest = reading.steps(model, cache, tokens[:-1], budget)
        return torch.cat([first, rest]).gather(1, tokens[:, None])[:, 0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).float().save_pretrained(folder)
    random = torch.Generator().manual_seed(1)
    return Model(folder, [torch.randint(3, VOCABULARY, (n,), generator=random).tolist() for n in (60, 333, 900)])


def far(one: torch.Tensor, said: list[tuple[int, float]]) -> float:
    return float((one - torch.tensor([log for _, log in said])).abs().max())


def same_tokens(one: Said, other: Said) -> bool:
    return [[t for t, _ in reply] for reply in one] == [[t for t, _ in reply] for reply in other]


def test_it_says_what_the_definition_says(model: Model) -> None:
    """In one step with others, of whom one stays dense; prompts read in chunks; and again from the prefix cache."""
    budget = budget_from(ENVIRONMENT)
    assert budget is not None

    calls, log = model.asked([model.prompts, model.prompts, *([p] for p in model.prompts)], ENVIRONMENT)

    together, again, *alone = calls
    assert ACTIVE in log
    for prompt, said in zip(model.prompts, together, strict=True):
        assert far(model.should_say(prompt, said, budget), said) < ROUNDING
    assert far(model.should_say(model.prompts[2], together[2], None), together[2]) > 10 * ROUNDING
    assert same_tokens(together, again)
    assert same_tokens(together, [reply for call in alone for reply in call])


def test_guesses_that_are_checked_and_rejected_change_nothing(model: Model) -> None:
    """Guessed tokens widen bounds and are read by pages, each as far as it sees."""
    budget = budget_from(ENVIRONMENT)
    guessing = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2, "prompt_lookup_min": 1}
    prompts = [model.prompts[1] * 2, model.prompts[0] * 9]

    (said,), _ = model.asked([prompts], ENVIRONMENT, speculative_config=guessing)

    for prompt, reply in zip(prompts, said, strict=True):
        assert len(reply) == TOKENS
        assert far(model.should_say(prompt, reply, budget), reply) < 5 * ROUNDING


def test_a_budget_that_covers_the_context_says_the_same_tokens_as_without_it(model: Model) -> None:
    with_budget, _ = model.asked([model.prompts], {"POINTSMAN_SPARSE_BUDGET_TOKENS": "1024"})
    without, log = model.asked([model.prompts], {})

    assert ACTIVE not in log
    assert with_budget == without


@pytest.mark.parametrize(
    ("environment", "engine", "words"),
    [
        ({}, {"kv_cache_dtype": "fp8", "dtype": "bfloat16"}, "the KV cache is of the type fp8"),
        ({"POINTSMAN_SPARSE_PAGE_TOKENS": "64"}, {}, "blocks of 32 tokens do not hold pages of 64"),
        ({"POINTSMAN_SPARSE_BUDGET_TOKENS": "100"}, {}, "ask for that much or more"),
    ],
)
def test_what_it_cannot_serve_it_refuses_before_it_serves(
    model: Model, environment: dict[str, str], engine: dict[str, Any], words: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        model.asked([model.prompts[:1]], {**ENVIRONMENT, **environment}, **engine)

    assert "SparseRefused" in refused.value.output
    assert words in refused.value.output


def test_a_budget_is_what_the_environment_says() -> None:
    assert budget_from(ENVIRONMENT) == Budget(256, recent_tokens=64, dense_below_tokens=300, dense_layers=1)
