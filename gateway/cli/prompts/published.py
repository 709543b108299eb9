"""What the database has published of the prompts."""

from collections.abc import Mapping

from gateway.cli.prompts.place import PromptsFailed
from gateway.settings import Settings


def published_digests(settings: Settings, label: str) -> Mapping[str, str]:
    raise PromptsFailed("--against: no store yet")
