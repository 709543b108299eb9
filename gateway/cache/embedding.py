"""What turns prompts into vectors, as the cache wants it: by default the embedder that ships."""

from collections.abc import Callable, Sequence

from gateway.settings import SettingsError
from models.catalog import load_catalog
from models.packages import PackageMissing

Embed = Callable[[list[str]], Sequence[Sequence[float]]]
EmbedMaker = Callable[[], Embed]

REMEDY = "install it with: pip install 'pointsman[embedder]', or leave cache.semantic empty"


class CacheError(SettingsError):
    """The cache cannot be as it is set, or what it is judged by cannot be read; the message says what to change."""


def local_embedder() -> Embed:
    """That of the built-in catalogue's row. Raises CacheError when its package is not installed."""
    try:
        from models.embedder import Embedder  # brings numpy, which a gateway without this cache does not need

        [row] = [row for row in load_catalog() if row.engine == "embedder"]
        assert row.package is not None
        embedder = Embedder.load(row.package)
    except (ImportError, PackageMissing) as error:
        raise CacheError(f"prompts alike need an embedder: {error}; {REMEDY}") from error

    def embed(texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = embedder.embed(texts).tolist()
        return vectors

    return embed
