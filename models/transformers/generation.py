"""The loop that makes tokens: prompt in pieces, then one at a time, each with its log-probabilities. Needs torch.

Knows tensors and ids; neither texts nor the protocol.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

PREFILL_TOKENS = 256  # computed between two looks at the client: half a second of a 1.5B model on two cores

BNB_MODES: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """`logprob` is the model's own, before temperature and penalties; `others` are the likeliest ids, best first."""

    id: int
    logprob: float
    others: Sequence[tuple[int, float]] = ()


def load(folder: str, *, dtype: str, quantization: str | None) -> tuple[Any, Any]:
    """The model, ready to answer, and its tokenizer. Raises what transformers raises."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    where = "cuda" if torch.cuda.is_available() else "cpu"
    given = "auto" if dtype == "auto" else getattr(torch, dtype)
    arguments: dict[str, Any] = {"dtype": given, "device_map": {"": where}, "use_safetensors": True}
    if quantization is not None:
        modes = dict(BNB_MODES[quantization])
        if quantization == "nf4":
            modes["bnb_4bit_compute_dtype"] = torch.bfloat16 if dtype == "auto" else given
        arguments["quantization_config"] = BitsAndBytesConfig(**modes)
    model = AutoModelForCausalLM.from_pretrained(folder, **arguments).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def ends_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    said = model.generation_config.eos_token_id
    ends = said if isinstance(said, list) else [said]
    return frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)


@torch.inference_mode()
def generate(
    model: Any, prompt: Sequence[int], most_tokens: int, sampling: Sampling, go_on: Callable[[], bool]
) -> Iterator[Token]:
    """At most *most_tokens*; ends sooner when *go_on* says no, which is asked before each piece of work."""
    from transformers import DynamicCache

    chance = torch.Generator().manual_seed(sampling.seed if sampling.seed is not None else torch.seed() % 2**63)
    counts = torch.zeros(model.config.vocab_size)
    cache, logits = DynamicCache(config=model.config), torch.empty(0)
    for start in range(0, len(prompt), PREFILL_TOKENS):
        if not go_on():
            return
        logits = _step(model, prompt[start : start + PREFILL_TOKENS], cache)
    for made in range(most_tokens):
        if not go_on():
            return
        token = _token(logits, counts, sampling, chance)
        counts[token.id] += 1
        yield token
        if made + 1 < most_tokens:
            logits = _step(model, [token.id], cache)


def _step(model: Any, ids: Sequence[int], cache: Any) -> torch.Tensor:
    """Logits of what follows *ids*, (V,), float32, on the processor."""
    tokens = torch.tensor([list(ids)], device=model.device)
    out = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return out.logits[0, -1].float().cpu()


def _token(logits: torch.Tensor, counts: torch.Tensor, sampling: Sampling, chance: torch.Generator) -> Token:
    said = torch.log_softmax(logits, dim=-1)
    penalised = logits - sampling.frequency_penalty * counts[: len(logits)]
    penalised = penalised - sampling.presence_penalty * (counts[: len(logits)] > 0)
    id = _chosen(penalised, sampling, chance)
    likeliest = torch.topk(said, sampling.logprobs) if sampling.logprobs else None
    others = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True) if likeliest else ()
    return Token(id, float(said[id]), tuple(others))


def _chosen(logits: torch.Tensor, sampling: Sampling, chance: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    shares, order = torch.softmax(logits / sampling.temperature, dim=-1).sort(descending=True)
    kept = shares.cumsum(0) - shares < sampling.top_p  # always the first
    kept[0] = True
    return int(order[torch.multinomial(shares * kept, 1, generator=chance)])
