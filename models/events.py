"""The events of a streamed answer, in the one form that `models.engine.Reply` promises: `data: {...}` on one line, an
empty line behind it. Knows no engine's dialect; `models.sse` reads those.
"""

from typing import Any

import orjson

DATA = b"data: "
END = b"\n\n"  # in JSON every line end is escaped, so it ends events and nothing else


def written(document: Any) -> bytes:
    """*document* as one event."""
    return DATA + orjson.dumps(document) + END


def read(event: bytes) -> Any:
    """The document of one event."""
    return orjson.loads(event[len(DATA) :])


def events_of(block: bytes) -> list[bytes]:
    """The events of *block*, as they stand in it."""
    return [event + END for event in block.split(END) if event]


def documents_of(block: bytes) -> list[Any]:
    """What the events of *block* say."""
    return [read(event) for event in block.split(END) if event]
