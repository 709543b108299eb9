"""Prompts alike: which kept answer's prompt is nearest, by the cosine of static embeddings. In this process alone.

Needs numpy, which the embedder brings along; imported only where a template may be answered so.
"""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from gateway.cache.embedding import Embed

Vector = NDArray[np.float32]

GROUPS_LIMIT = 256  # requests that differ in nothing but their varying text; the longest unused goes
GROUP_LIMIT = 256  # prompts of one group, the oldest goes: 64 MB in all at 256 dimensions


class Neighbours:
    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._groups: OrderedDict[str, tuple[list[str], NDArray[np.float32]]] = OrderedDict()

    def vector(self, text: str) -> Vector:
        """Of length 1, so that a product of two is their cosine; of length 0 for a text without known words."""
        [written] = self._embed([text])
        vector = np.asarray(written, dtype=np.float32)
        length = float(np.linalg.norm(vector))
        return vector / length if length > 0 else vector

    def nearest(self, group: str, vector: Vector) -> tuple[str, float] | None:
        """The key of the nearest prompt of *group* and its cosine."""
        held = self._groups.get(group)
        if held is None:
            return None
        self._groups.move_to_end(group)
        keys, vectors = held
        cosines = vectors @ vector
        place = int(cosines.argmax())
        return keys[place], float(cosines[place])

    def add(self, group: str, key: str, vector: Vector) -> None:
        keys, vectors = self._groups.pop(group, ([], np.empty((0, len(vector)), np.float32)))
        kept = [place for place, held in enumerate(keys) if held != key][1 - GROUP_LIMIT :]
        self._groups[group] = ([*(keys[place] for place in kept), key], np.vstack([vectors[kept], vector]))
        if len(self._groups) > GROUPS_LIMIT:
            self._groups.popitem(last=False)

    def forget(self, group: str, key: str) -> None:
        """Its answer is kept no longer."""
        keys, vectors = self._groups.pop(group)
        kept = [place for place, held in enumerate(keys) if held != key]
        if kept:
            self._groups[group] = ([keys[place] for place in kept], vectors[kept])
