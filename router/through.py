"""Sends ladder prompts through a running gateway and keeps what came back, resumably. Knows its HTTP alone."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import orjson

from models.catalog import AUTO, BUILD_HEX_DIGITS
from models.http import ConnectFailed, HttpError, Origin
from prompts.grade import grader
from router.collect import ANSWER_LIMIT_TOKENS, rounded_logprob, said_digest
from router.kept import appending, read_kept, work_off
from router.ladder import LadderPrompt
from router.signals import TOP_LOGPROBS, signals_of

ANSWER_TIMEOUT_SECONDS = 600.0  # 256 tokens of a model on a busy laptop, behind others
HEAD_TIMEOUT_SECONDS = 30.0  # of what calls no model
BODY_LIMIT_BYTES = 16 * 1024 * 1024
TRIES = 5  # of an answer, while the gateway is busy or an engine is down
LONGEST_PAUSE_SECONDS = 30.0  # between them, whatever retry-after says
SHOWN_CHARACTERS = 300  # of what the gateway said
BUSY = frozenset({429, 502, 503, 504})
SECONDS_DIGITS = 6  # decimals: a gateway in front of a fake engine answers within a millisecond
REFUSED = frozenset({400, 413, 422})  # of this prompt by this model: no answer, which is not a right one
WITH_LOGPROBS: Mapping[str, Any] = MappingProxyType({"logprobs": True, "top_logprobs": TOP_LOGPROBS})
WITHOUT: Mapping[str, Any] = MappingProxyType({})
NO_CACHE = MappingProxyType({"x-pointsman-cache": "off"})  # a kept answer would say nothing about seconds and cost


class ThroughFailed(Exception):
    """The gateway cannot be asked; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Served:
    """A chat model that the gateway offers by name. `logprobs`: whether it gives log-probabilities."""

    name: str
    build: str
    tier: int
    logprobs: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """`models` from the cheapest tier to the safe one; never empty."""

    models: tuple[Served, ...]

    @property
    def safe(self) -> Served:
        return self.models[-1]

    def build_of(self, way: str) -> str:
        """What an answer got in this way is bound to: the model's build; for `auto` a digest of all of them."""
        if way != AUTO:
            return next(model.build for model in self.models if model.name == way)
        return hashlib.sha256("|".join(model.build for model in self.models).encode()).hexdigest()[:BUILD_HEX_DIGITS]

    def extras(self, way: str) -> Mapping[str, Any]:
        """Log-probabilities are asked of `auto` only where all give them: else asking would narrow its choice."""
        asked = [model for model in self.models if way in (AUTO, model.name)]
        return WITH_LOGPROBS if all(model.logprobs for model in asked) else WITHOUT


@dataclass(frozen=True, slots=True)
class Passed:
    """One prompt answered through the gateway. `way`: what was asked for, `auto` or a name; `model`: who answered.

    `seconds`: from sending to the whole answer, while as many others were asked. `refused`: the code of the gateway's
    refusal, None for an answer. `request_id` finds its charge in the ledger. Log-probabilities are natural.
    """

    way: str
    build: str
    prompt_id: str
    task: str
    correct: bool
    model: str | None
    basis: str | None
    request_id: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    finish_reason: str | None
    mean_logprob: float | None = None
    min_logprob: float | None = None
    mean_margin: float | None = None
    said: str = ""
    refused: str | None = None


def read_passed(path: Path) -> list[Passed]:
    """What has come back so far. Raises OSError."""
    return read_kept(path, Passed)


class Gateway:
    """A running gateway. *url* with or without `/v1`; *key* None where it serves callers without one.

    For use in one event loop. Raises ThroughFailed for an address that cannot be one.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._has_key = key is not None
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        try:
            self._origin = Origin(self.url, headers=headers)
        except ValueError as error:
            raise ThroughFailed(f"--url: {error}") from error

    async def close(self) -> None:
        await self._origin.close()

    async def offer(self) -> Offer:
        """The chat models that this caller may ask for by name. Raises ThroughFailed."""
        listed = (await self._told("GET", "/v1/models"))["data"]
        models = []
        for item in listed:
            if (
                "build" in item
                and "tier" in item
                and (served := await self._served(item["id"], item["build"], item["tier"]))
            ):
                models.append(served)
        if not models:
            raise ThroughFailed(
                f"{self.url} offers no chat model whose build it tells: it is no Pointsman, an older one, or this key "
                "may use none; see pointsman keys list"
            )
        return Offer(tuple(sorted(models, key=lambda model: model.tier)))

    async def ask(self, way: str, prompt: LadderPrompt, offer: Offer) -> Passed:
        """Raises ThroughFailed where no answer, and no refusal of this very prompt, can be had."""
        body = {
            "model": way,
            "messages": list(prompt.messages),
            "max_tokens": ANSWER_LIMIT_TOKENS,
            "temperature": 0,
            **offer.extras(way),
        }
        status, headers, document, seconds = await self.chat(body)
        if (status == 200 and not document.get("choices")) or (status != 200 and status not in REFUSED):
            raise self._refusal(status, document, f"prompt {prompt.id} for {way}")
        build = offer.build_of(way)
        return _passed(way, build, prompt, headers, document, seconds, refused=status != 200)

    async def chat(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], Any, float]:
        """Status, headers and document of what *body* is answered, and the seconds that took. Asks again while the
        gateway is busy. Raises ThroughFailed.
        """
        attempt = 1
        while True:
            start = perf_counter()
            status, headers, document = await self._request("POST", "/v1/chat/completions", orjson.dumps(body))
            seconds = perf_counter() - start
            if status not in BUSY or attempt == TRIES:
                return status, headers, document, seconds
            await asyncio.sleep(_pause_seconds(headers, attempt))
            attempt += 1

    async def _served(self, name: str, build: str, tier: int) -> Served | None:
        """None for what cannot chat."""
        for logprobs in (True, False):
            body = {"model": name, "messages": [{"role": "user", "content": "?"}]}
            body |= WITH_LOGPROBS if logprobs else WITHOUT
            status, _, document = await self._request("POST", "/v1/decision", orjson.dumps(body))
            if status == 200:
                return Served(name, build, tier, logprobs)
            if status != 400:  # 400: it is not able to do what is asked
                raise self._refusal(status, document, f"a decision about {name}")
        return None

    async def _told(self, method: str, path: str) -> Any:
        status, _, document = await self._request(method, path)
        if status != 200 or "data" not in document:
            raise self._refusal(status, document, path)
        return document

    async def _request(self, method: str, path: str, body: bytes = b"") -> tuple[int, Mapping[str, str], Any]:
        """Status, headers, and the document that came back; an empty one where it is no JSON object."""
        timeout_seconds = ANSWER_TIMEOUT_SECONDS if body else HEAD_TIMEOUT_SECONDS
        try:
            response = await self._origin.request(
                method, quote(path), body, headers=NO_CACHE, timeout_seconds=timeout_seconds
            )
            raw = await response.read_all(BODY_LIMIT_BYTES, timeout_seconds)
        except ConnectFailed as error:
            raise ThroughFailed(
                f"no gateway answers at {self.url} ({error}); start one with pointsman serve, or say where it is: --url"
            ) from error
        except HttpError as error:
            raise ThroughFailed(f"{self.url} broke off: {error}; the same command goes on where it stopped") from error
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError:
            document = None
        return response.status, response.headers, document if isinstance(document, dict) else {}

    def _refusal(self, status: int, document: Mapping[str, Any], what: str) -> ThroughFailed:
        _, message = _error_of(document)
        if status == 401:
            had = "does not know this key" if self._has_key else "wants a key"
            return ThroughFailed(
                f"{self.url} {had}; make one with pointsman keys create NAME, and put it into the variable that "
                "--key-env names"
            )
        if status == 200:
            return ThroughFailed(f"{self.url} answers, but not as a gateway does ({what}); say where it is: --url")
        said = f": {message}" if message else ""
        return ThroughFailed(
            f"{self.url} answered {what} with status {status}{said}. Mend it; the same command goes on where it stopped"
        )


async def pass_through(
    gateway: Gateway,
    offer: Offer,
    ways: Iterable[str],
    prompts: list[LadderPrompt],
    path: Path,
    *,
    parallel: int,
    on_answer: Callable[[Passed], None],
) -> None:
    """Append to *path* what each of *prompts* is answered in each of *ways*, one way after the other.

    What is there already, of the same builds, is not asked again. Raises ThroughFailed, OSError.
    """
    done = {(a.way, a.build, a.prompt_id) for a in read_passed(path)}
    with appending(path) as append:
        for way in ways:

            async def ask(prompt: LadderPrompt, way: str = way) -> None:
                passed = await gateway.ask(way, prompt, offer)
                append(passed)
                on_answer(passed)

            build = offer.build_of(way)
            await work_off([p for p in prompts if (way, build, p.id) not in done], ask, parallel)


def _passed(
    way: str,
    build: str,
    prompt: LadderPrompt,
    headers: Mapping[str, str],
    document: Mapping[str, Any],
    seconds: float,
    *,
    refused: bool,
) -> Passed:
    choice = {} if refused else document["choices"][0]
    usage = document.get("usage") or {}
    text = (choice.get("message") or {}).get("content") or ""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    signals = signals_of(tokens, text, choice.get("finish_reason"))
    return Passed(
        way=way,
        build=build,
        prompt_id=prompt.id,
        task=prompt.task,
        correct=not refused and grader(prompt.grade)(text, prompt.expected),
        model=headers.get("x-pointsman-model"),
        basis=headers.get("x-pointsman-basis"),
        request_id=headers.get("x-request-id"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        seconds=round(seconds, SECONDS_DIGITS),
        finish_reason=choice.get("finish_reason"),
        mean_logprob=rounded_logprob(signals.mean_logprob),
        min_logprob=rounded_logprob(signals.min_logprob),
        mean_margin=rounded_logprob(signals.mean_margin),
        said=said_digest(prompt.grade, text),
        refused=_error_of(document)[0] if refused else None,
    )


def _error_of(document: Mapping[str, Any]) -> tuple[str, str]:
    """Code and message of an error in OpenAI's shape."""
    error = document.get("error")
    if not isinstance(error, dict):
        return "unknown", ""
    return str(error.get("code") or "unknown"), str(error.get("message") or "")[:SHOWN_CHARACTERS]


def _pause_seconds(headers: Mapping[str, str], attempt: int) -> float:
    """As the gateway asks for; else longer each time."""
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        asked = 2.0**attempt
    return min(LONGEST_PAUSE_SECONDS, max(0.0, asked)) if isfinite(asked) else LONGEST_PAUSE_SECONDS
