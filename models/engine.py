"""What it means to call a model: the words and the promises. No I/O here.

EngineError
 +- EngineUnavailable   could not be reached, is starting, or failed before its first chunk; another model may be tried
 +- EngineBusy          asks to be left alone for a while (429, 503); another model may be tried
 +- EngineRefused       says the request itself is wrong (4xx); the client is told, no other model is asked
 |   +- ContextTooLong  the prompt does not fit; a model with more room may be tried
 +- EngineCut           broke off after its first chunk; nothing may be replayed
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class Tokens(Protocol):
    """What a price is paid for. `cached_tokens` are part of `prompt_tokens`."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...

    @property
    def cached_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them. `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of
    `completion_tokens`.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Operation(StrEnum):
    """What is asked of a model; the value is the path under an OpenAI-speaking server's base URL."""

    CHAT = "/chat/completions"
    COMPLETION = "/completions"
    EMBEDDING = "/embeddings"
    COUNT = "/chat/completions/input_tokens"  # how long the prompt of a conversation is; llama.cpp's own, not OpenAI's


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one model: a body of OpenAI's protocol, of which the engine sets the model's name and `stream`.

    `include_usage`: the client wants to see the counts at the end of a stream (the engine is always asked for them).
    `priority`: smaller goes first in a queue. `deadline`: on the event loop's clock, in seconds; no work is begun after
    it. `affinity`: calls with the same one like the same replica, whose prefix cache is warm; None where nothing is
    known to be shared. `headers`: further ones for the engine's server. `request_id`: whose call this is.
    """

    body: Mapping[str, Any]
    stream: bool = False
    operation: Operation = Operation.CHAT
    include_usage: bool = False
    priority: int = 0
    deadline: float | None = None
    affinity: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


class Reply(ABC):
    """An answer that has begun: `first` is here, `more` follows.

    A streamed answer comes in blocks of one or more whole events, `data: {...}\\n\\n` each, JSON on one line; no
    comments, no `[DONE]`, no counts but (with `include_usage`) in one event of their own at the end. An answer that is
    not streamed is one block, a JSON document. Either names the model as the catalogue does. Close every reply.
    """

    def __init__(self, first: bytes) -> None:
        self.first = first
        self._when_closed: list[Callable[[], None]] = []
        self._closed = False

    @property
    @abstractmethod
    def usage(self) -> Usage | None:
        """What the engine has counted so far; None where it has not said, which is not zero."""

    @property
    @abstractmethod
    def engine_seconds(self) -> float | None:
        """The engine's own account of its compute time so far."""

    @abstractmethod
    async def more(self) -> bytes:
        """The next block, empty at the end. Raises EngineCut."""

    @abstractmethod
    async def _stop(self) -> None:
        """Give back what the answer holds; when it has not come to its end, stop the engine's work."""

    def when_closed(self, then: Callable[[], None]) -> None:
        """Call *then* once, when this reply is closed."""
        self._when_closed.append(then)

    async def close(self) -> None:
        """Stops the engine's work within a second if the answer has not come to its end. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._stop()
        finally:
            closing, self._when_closed = self._when_closed, []  # they know this reply: kept, nobody would free either
            for then in closing:
                then()


class Whole(Reply):
    """An answer that is here in one block."""

    def __init__(self, document: bytes, usage: Usage | None, engine_seconds: float | None) -> None:
        super().__init__(document)
        self._usage = usage
        self._engine_seconds = engine_seconds

    @property
    def usage(self) -> Usage | None:
        return self._usage

    @property
    def engine_seconds(self) -> float | None:
        return self._engine_seconds

    async def more(self) -> bytes:
        return b""

    async def _stop(self) -> None:
        """Nothing is left to stop."""


class Wrapped(Reply):
    """*reply* told in another way: its counts and its end are those of *reply*."""

    def __init__(self, reply: Reply, first: bytes) -> None:
        super().__init__(first)
        self._reply = reply

    @property
    def usage(self) -> Usage | None:
        return self._reply.usage

    @property
    def engine_seconds(self) -> float | None:
        return self._reply.engine_seconds

    async def _stop(self) -> None:
        await self._reply.close()


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
    """Calls one model."""

    async def start(self) -> None:
        """Begin to become ready; return at once. Raises nothing: failures show in `health`."""

    async def stop(self) -> None:
        """Release everything that `start` took. Safe to call twice."""

    def health(self) -> Health: ...

    async def begin(self, call: Call) -> Reply:
        """The reply, once its first block is here. Raises EngineError. Cancelling it stops the engine's work."""


@runtime_checkable
class Tells(Protocol):
    """An Engine whose server says of itself how busy it is."""

    async def readings(self) -> Any:
        """See `models.vllm.readings`; None while it says nothing. Raises nothing, and takes no longer than a scrape."""


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
    def __init__(self, message: str, *, param: str = "messages") -> None:
        super().__init__(message, status=400, code="context_length_exceeded", param=param)


class EngineCut(EngineError): ...
