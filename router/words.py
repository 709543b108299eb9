"""Which words a text has, and which stand side by side: hashed to places, so that a weight for each is a short table.

For a linear model this is what a static embedding is: it, too, is a mean of one vector per token, and all that such a
model makes of a vector is one weight. Learning the weights themselves ranks prompts better (EXPERIMENTS.md, 26).
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from itertools import pairwise
from struct import pack, unpack
from zlib import crc32

PLACES = 1 << 13
WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
LEFT, RIGHT = 1_000_003, 7_919  # primes: a pair and its reverse are two places
PAIR_BITS = 7  # of a pair's hash that are dropped; the lowest ones are like those of its words


def places(text: str) -> tuple[int, ...]:
    """Each place once, in order, 0 to PLACES - 1. Upper and lower case are one; how often a word occurs is not said."""
    words = WORD.findall(text.lower())
    hashes = {word: crc32(word.encode(errors="replace")) for word in set(words)}
    last = PLACES - 1
    found = {of & last for of in hashes.values()}
    pairs = set(pairwise(words))
    found.update([(hashes[a] * LEFT + hashes[b] * RIGHT >> PAIR_BITS) & last for a, b in pairs])
    return tuple(sorted(found))


def packed(of: Iterable[int]) -> str:
    """Places as text: two bytes each, little-endian, in base64."""
    ordered = tuple(of)
    return b64encode(pack(f"<{len(ordered)}H", *ordered)).decode()


def unpacked(text: str) -> tuple[int, ...]:
    """Raises ValueError for what `packed` has not written."""
    raw = b64decode(text, validate=True)
    if len(raw) % 2:
        raise ValueError("a place has two bytes")
    found = unpack(f"<{len(raw) // 2}H", raw)
    if any(place >= PLACES for place in found):
        raise ValueError(f"there are {PLACES} places")
    return found
