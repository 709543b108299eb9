"""Tokens and pairs of tokens as a few numbers: weighed by rarity, along the directions in which prompts differ most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.utils.extmath import randomized_svd

from router.evaluation.tables import Floats

DIRECTIONS = 300
PROMPTS_PER_DIRECTION = 3  # at least
SEED = 20261125


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    rarity: NDArray[np.float32]  # (GRAMS,)
    directions: NDArray[np.float32]  # (GRAMS, K)

    def apply(self, counts: csr_matrix) -> Floats:
        """(P, GRAMS), sparse, to (P, K); a row is at most of length one."""
        return np.asarray(_weighed(counts, self.rarity) @ self.directions, dtype=np.float64)


def fit_grams(counts: csr_matrix) -> Grams:
    """TF-IDF with 1 + log counts and smoothed rarity, rows to length one (Manning, Raghavan and Schuetze,
    "Introduction to Information Retrieval", section 6.4), and its leading right singular vectors.
    """
    prompts = counts.shape[0]
    holding = np.bincount(counts.indices, minlength=counts.shape[1])
    rarity = (np.log((1 + prompts) / (1 + holding)) + 1).astype(np.float32)
    size = max(1, min(DIRECTIONS, prompts // PROMPTS_PER_DIRECTION))
    _, _, directions = randomized_svd(_weighed(counts, rarity), size, n_iter=3, random_state=SEED)
    return Grams(rarity, np.ascontiguousarray(directions.T, dtype=np.float32))


def _weighed(counts: csr_matrix, rarity: NDArray[np.float32]) -> csr_matrix:
    made = counts.copy()
    made.data = (1 + np.log(made.data)) * rarity[made.indices]
    lengths = np.sqrt(np.asarray(made.multiply(made).sum(axis=1)).ravel())
    return (diags(1 / np.maximum(lengths, 1e-9).astype(np.float32)) @ made).tocsr()
