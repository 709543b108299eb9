"""What it means to call a model: the words and the promises. No I/O here.

EngineError
 +- EngineUnavailable   could not be reached, is starting, or failed before its first chunk; another model may be tried
 +- EngineBusy          asks to be left alone for a while (429, 503); another model may be tried
 +- EngineRefused       says the request itself is wrong (4xx); the client is told, no other model is asked
 |   +- ContextTooLong  the prompt does not fit; a model with more room may be tried
 +- EngineCut           broke off after its first chunk; nothing may be replayed
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them. `cached_tokens` are part of `prompt_tokens`."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one model: an OpenAI chat-completions body, of which the engine sets only the model's name."""

    body: Mapping[str, Any]
    stream: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """One JSON document of the answer: a `chat.completion.chunk`, or the whole `chat.completion` when not streamed.

    `usage` is what has been counted up to and including this chunk, None where the engine does not say;
    `engine_seconds` likewise is the engine's own account of its compute time so far.
    """

    data: dict[str, Any]
    usage: Usage | None = None
    engine_seconds: float | None = None


class EngineState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Health:
    """`detail` says what an operator should do when the state is not READY; empty otherwise."""

    state: EngineState
    detail: str = ""
    restarts: int = 0


class Engine(Protocol):
    """Calls one model. Closing the generator early must stop the engine's work within a second."""

    async def start(self) -> None:
        """Begin to become ready; return at once. Raises nothing: failures show in `health`."""

    async def stop(self) -> None:
        """Release everything that `start` took. Safe to call twice."""

    def health(self) -> Health: ...

    def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Yield the answer's chunks, the first as soon as it exists. Raises EngineError, before or between chunks."""


class EngineError(Exception):
    """An engine did not answer. `message` is safe to show to a client: it names no address and no key."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class EngineUnavailable(EngineError): ...


class EngineBusy(EngineError): ...


class EngineRefused(EngineError):
    """`status` is 4xx; `param` and `code` come from the engine's own error where it gave them."""

    def __init__(self, message: str, *, status: int, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class ContextTooLong(EngineRefused):
    def __init__(self, message: str) -> None:
        super().__init__(message, status=400, code="context_length_exceeded", param="messages")


class EngineCut(EngineError): ...
