"""A prompt's looks: all that is known of a request before anybody answers it, and what a solve model reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prompts.message import fixed_text, varying_text
from router.features import features
from router.words import places

LIMIT_CHARACTERS = 2048  # of each text; keeps a decision under a millisecond however long it is (EXPERIMENTS.md, 26)


@dataclass(frozen=True, slots=True)
class Looks:
    """`features`: in the order of `router.features.FEATURES`. `words`: places of `router.words`, each once."""

    features: tuple[float, ...]
    words: tuple[int, ...] = ()


def looks(body: Mapping[str, Any]) -> Looks:
    """*body* is a chat-completions request."""
    return looks_of(varying_text(body["messages"]), fixed_text(body["messages"]))


def looks_of(text: str = "", fixed: str = "") -> Looks:
    """Of the end of the varying *text*, where a question stands, and the beginning of the fixed one."""
    text = text[-LIMIT_CHARACTERS:]
    return Looks(features(text, fixed[:LIMIT_CHARACTERS]), places(text))
