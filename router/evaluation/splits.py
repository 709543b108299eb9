"""Which fold a prompt is in: by a hash of its id, so that it is the same in every run and every set."""

import hashlib

import numpy as np

from router.evaluation.samples import Rows, Texts

FOLDS = 5


def fold_of(prompt_id: str, folds: int) -> int:
    return int.from_bytes(hashlib.sha256(f"evaluate:{prompt_id}".encode()).digest()[:8]) % folds


def folds_of(prompt_ids: Texts, folds: int) -> list[Rows]:
    """The rows of each fold; folds without a row are left out."""
    places = np.array([fold_of(prompt_id, folds) for prompt_id in prompt_ids])
    return [rows for fold in range(folds) if len(rows := np.flatnonzero(places == fold))]
