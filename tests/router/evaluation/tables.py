"""Small made-up tables of outcomes: prompts of two templates, the longer ones harder for the small model."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from router.evaluation.sets import CRUX, GEMMA_2B, GPT_4, GPT_4O, GSM8K, LLAMA_8B, LLAMA_70B, MATH, MIXTRAL, MMLU_PRO

HELPER = "another-7b"
SIZES: Mapping[str, float | None] = {
    LLAMA_8B: 8.0, HELPER: 7.0, GEMMA_2B: 2.6, "another-3b": 3.0, LLAMA_70B: 70.0,
    GPT_4O: None, MIXTRAL: None, GPT_4: None,
}  # fmt: skip
DIMENSIONS = 16


class WordEmbedder:
    """Each word has a fixed random vector."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        made = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4])
                made[row] += np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
            made[row] /= max(1e-9, float(np.linalg.norm(made[row])))
        return made

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [[int.from_bytes(hashlib.sha256(word.encode()).digest()[:2]) for word in text.split()] for text in texts]


def rows_of(
    name: str, models: Sequence[str], prompts: int = 60, *, answers: bool = True, usd: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """The small models are right on short prompts, the large ones on most; a wrong answer is seldom given twice."""
    dice = random.Random(f"{name} {prompts}")
    rows = []
    for number in range(prompts):
        hardness = dice.random()
        text = f"{name} question {number} " + "hard " * int(20 * hardness)
        for model in models:
            size = SIZES.get(model) or 100.0
            right = dice.random() < (0.95 - hardness * (0.9 if size < 10 else 0.15))
            rows.append(
                {
                    "prompt_id": f"{name}-{number}",
                    "source": name,
                    "benchmark": f"part {number % 2}",
                    "prompt": text,
                    "model": model,
                    "params_b": SIZES.get(model),
                    "score": float(right),
                    "prompt_tokens_est": len(text) // 4,
                    "completion_tokens_est": 10 + int(50 * hardness),
                    "answer": ("42" if right else str(dice.randrange(1000))) if answers else None,
                    "cost_usd": usd[model] * (1 + hardness) if usd else None,
                }
            )
    return rows


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.parquet"
    schema = {"params_b": pa.float32(), "cost_usd": pa.float64(), "answer": pa.string()}
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    pq.write_table(pa.table({key: pa.array(of, schema.get(key)) for key, of in columns.items()}), path)
    return path


def write_all(folder: Path, prompts: int = 60) -> Path:
    """A folder of which every known set can be made, and one table of its own with dollars."""
    pair = (MIXTRAL, GPT_4)
    for name in ("routellm_mmlu", "routellm_gsm8k"):
        write_table(folder, name, rows_of(name, pair, prompts, answers=False))
    llamas = (LLAMA_8B, HELPER, LLAMA_70B)
    write_table(folder, MMLU_PRO, rows_of(MMLU_PRO, llamas, prompts))
    for name in (GSM8K, MATH, CRUX):
        write_table(folder, name, rows_of(name, (*llamas, GEMMA_2B, "another-3b", GPT_4O), prompts))
    write_table(folder, "priced", priced_rows(prompts))
    return folder


def priced_rows(prompts: int = 60) -> list[dict[str, Any]]:
    usd = {LLAMA_8B: 0.001, LLAMA_70B: 0.01, GPT_4O: 0.05}
    return rows_of("priced", tuple(usd), prompts, usd=usd)
