"""Replies of tests: blocks as they are written down, and what a client reads from blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from models.engine import EngineCut, Reply, Usage


class Written(Reply):
    """Gives *blocks* one after the other, then breaks off when *cut*. `stopped` when it was closed."""

    def __init__(self, blocks: Sequence[bytes], usage: Usage | None = None, *, cut: bool = False) -> None:
        super().__init__(blocks[0])
        self._blocks = list(blocks[1:])
        self._usage = usage
        self._cut = cut
        self.stopped = False

    @property
    def left(self) -> int:
        return len(self._blocks)

    @property
    def usage(self) -> Usage | None:
        return self._usage

    @property
    def engine_seconds(self) -> float | None:
        return None

    async def more(self) -> bytes:
        if self._blocks:
            return self._blocks.pop(0)
        if self._cut:
            raise EngineCut("broke off")
        return b""

    async def _stop(self) -> None:
        self.stopped = True


def event(*choices: Mapping[str, Any], **fields: Any) -> bytes:
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + orjson.dumps({**document, **fields}) + b"\n\n"


def delta(finish: str | None = None, index: int = 0, **said: Any) -> dict[str, Any]:
    return {"index": index, "delta": said, "finish_reason": finish, "logprobs": None}


async def blocks_of(reply: Reply) -> list[bytes]:
    blocks = [reply.first]
    while block := await reply.more():
        blocks.append(block)
    return blocks


def documents_of(blocks: Sequence[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(part.removeprefix(b"data: ")) for part in b"".join(blocks).split(b"\n\n") if part]


def said(blocks: Sequence[bytes], key: str = "content", index: int = 0) -> str:
    """What one answer says in all, as a client puts it together."""
    pieces = []
    for document in documents_of(blocks):
        for choice in document["choices"]:
            if choice["index"] == index:
                pieces.append(choice.get("delta", choice).get(key) or "")
    return "".join(pieces)


def finishes(blocks: Sequence[bytes], index: int = 0) -> list[str]:
    choices = [choice for document in documents_of(blocks) for choice in document["choices"]]
    return [c["finish_reason"] for c in choices if c["index"] == index and c["finish_reason"]]
