"""What turns prompts into vectors, as the cache wants it. Knows no embedder: one is handed in."""

from collections.abc import Callable, Sequence

from gateway.settings import SettingsError

Embed = Callable[[list[str]], Sequence[Sequence[float]]]
EmbedMaker = Callable[[], Embed]


class CacheError(SettingsError):
    """The cache cannot be as it is set, or what it is judged by cannot be read; the message says what to change."""


def no_embedder() -> Embed:
    raise CacheError("prompts alike need an embedder, and this gateway has none; leave cache.semantic empty")
