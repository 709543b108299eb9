"""Texts to vectors on the processor: the mean of a static vector per token, as WordLlama's package carries them.

Knows the files of that package, which it reads and never imports (it would set up logging for the whole process).
Importing this module needs the extra `embedder`. Knows nothing of requests; the engine is `models.embedder_engine`.
"""

import os
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from models.packages import folder_of

Vectors = NDArray[np.float32]

DIMENSIONS = (64, 128, 256)  # Matryoshka: each of these many first numbers was trained to be a vector of its own
WEIGHTS = "wordllama/weights/l2_supercat_256.safetensors"
TENSOR = "embedding.weight"
TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
LONGEST_TOKEN_CHARACTERS = 16  # in that vocabulary; a longer text has more than one token for so many characters


class Embedder:
    """Safe to use from several threads at a time. The same text has the same vector, whatever stands beside it."""

    dimensions = DIMENSIONS
    longest_token_characters = LONGEST_TOKEN_CHARACTERS

    def __init__(self, tokenizer: Tokenizer, token_vectors: Vectors) -> None:
        self._tokenizer = tokenizer
        self._token_vectors = token_vectors

    @classmethod
    def load(cls, package: str) -> Self:
        """From the installed *package*, a name and its version: `wordllama==0.1.0`. Raises PackageMissing.

        Takes a fifth of a second, in which it holds the interpreter for 60 ms at once, and 60 MB.
        """
        # Threads of the tokenizer's own would take the cores of other engines, and it warns when the process forks.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        folder = folder_of(package)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        return cls(tokenizer, load_file(folder / WEIGHTS)[TENSOR].astype(np.float32))

    def embed(self, texts: Sequence[str], dimensions: int = DIMENSIONS[-1]) -> Vectors:
        """A row per text, of length one; of zeros for a text without a token, which only the empty one is."""
        return self.vectors(self.tokens(texts), dimensions)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text's tokens."""
        # The one of the tokenizer's methods that lets other threads run meanwhile.
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def vectors(self, tokens: Sequence[Sequence[int]], dimensions: int = DIMENSIONS[-1]) -> Vectors:
        """As `embed`, for texts whose tokens are known."""
        vectors = np.zeros((len(tokens), dimensions), dtype=np.float32)
        for row, ids in zip(vectors, tokens, strict=True):
            if ids:
                row[:] = self._token_vectors[ids, :dimensions].mean(axis=0)
                row /= np.linalg.norm(row)
        return vectors
