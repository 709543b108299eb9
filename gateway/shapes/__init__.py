"""Other protocols for the same conversation, each a pure translation to and from chat completions. No I/O.

`responses` and `messages` have the same names: `to_chat`, `from_chat`, `Stream`, `error_body`; one route serves both.
"""

from typing import Any, Protocol

import orjson

from gateway.errors import GatewayError
from models.engine import Usage


class Streaming(Protocol):
    """One answer on its way to the client: `begin`, any number of `feed`, `end` or `fail`. Bytes are whole events."""

    def begin(self) -> bytes: ...

    def feed(self, document: dict[str, Any]) -> bytes:
        """The events that one chat.completion.chunk makes; empty where it says nothing new."""

    def end(self, usage: Usage | None, now: int | None = None) -> bytes:
        """The closing events. *now* is in seconds since 1970; None where nobody looked at a clock."""

    def fail(self, error: GatewayError) -> bytes:
        """The closing events of an answer that broke off."""

    def result(self) -> dict[str, Any]:
        """The whole object as far as it has come; what `from_chat` gives for the same answer once it has ended."""


def named_event(type: str, **data: Any) -> bytes:
    """An event that says its type twice, as both protocols do: before the document and in it."""
    return b"event: %b\ndata: %b\n\n" % (type.encode(), orjson.dumps({"type": type, **data}))
