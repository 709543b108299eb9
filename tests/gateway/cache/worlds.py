"""Requests, models and stores of the cache's tests."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.schema import Asked, check
from models.catalog import Catalog, Model
from prompts.message import template_key


def model(name: str = "small", url: str = "http://one/v1") -> Model:
    return Model(name=name, engine="openai", base_url=url, tier=0, context_tokens=99)


CATALOG = Catalog({"small": model()}, {})
SYSTEM = {"role": "system", "content": "Be kind."}


def asked(text: str = "hello", **fields: Any) -> Asked:
    """A chat request that leaves nothing to chance."""
    messages = [SYSTEM, {"role": "user", "content": text}]
    body = {"model": "small", "messages": messages, "temperature": 0, **fields}
    return check(body, len(orjson.dumps(body)), CATALOG)


def template_of(request: Asked) -> str:
    key = template_key(request.body)
    assert key is not None
    return key


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Words:
    """An embedder that knows a few words, a dimension for each."""

    known: tuple[str, ...] = ("capital", "france", "paris", "rain", "please")
    asked: list[str] = field(default_factory=list)

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        return [[float(text.lower().count(word)) for word in self.known] for text in texts]
