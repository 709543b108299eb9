"""A chat completion as blocks, one after the other: reasoning, text, refusal, calls. Knows chat completions, streamed
and whole, with what servers vary in; knows no other protocol.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from models.engine import Usage

CUT_SHORT = frozenset({"length", "content_filter"})  # finish reasons of an answer that would have gone on


class Kind(StrEnum):
    REASONING = "reasoning"
    TEXT = "text"
    REFUSAL = "refusal"
    CALL = "call"


@dataclass(slots=True)
class Block:
    """A stretch of one kind. `place` counts the blocks of an answer from 0. `whole`: it came to its own end. `id` and
    `name` are of a call.
    """

    kind: Kind
    place: int = -1
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    whole: bool = False

    @property
    def text(self) -> str:
        """What was said; the arguments of a call, as JSON."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Opened:
    block: Block


@dataclass(frozen=True, slots=True)
class Grew:
    block: Block
    text: str
    logprobs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Closed:
    block: Block


Step = Opened | Grew | Closed
Key = tuple[Kind, int | str]


class Answer:
    """Chunks in, steps out, so ordered that one block is open at a time and none is opened twice.

    Once a call is open, whatever is not of that call is held back to the end: servers may write several calls in turns,
    and the other protocols know no way back to a block that was closed. Ids and names of calls come whole; the first
    that is not empty counts. A call without an id of its own gets one made of *seed*. An answer without any block
    has one of empty text.
    """

    def __init__(self, seed: str, *, reasoning: bool = True) -> None:
        self.blocks: list[Block] = []
        self.finish: str | None = None
        self.stopped_by: str | None = None  # the stop sequence, where the engine says which
        self.service_tier: str | None = None
        self._seed = seed
        self._reasoning = reasoning
        self._live: tuple[Key, Block] | None = None
        self._held: dict[Key, Block] = {}

    @property
    def whole(self) -> bool:
        return self.finish not in CUT_SHORT

    def feed(self, chunk: dict[str, Any]) -> list[Step]:
        self.service_tier = _text(chunk.get("service_tier")) or self.service_tier
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return []
        choice = choices[0]
        self.finish = _text(choice.get("finish_reason")) or self.finish
        self.stopped_by = _text(choice.get("stop_reason")) or self.stopped_by
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return []
        steps: list[Step] = []
        if self._reasoning:
            self._say(steps, Kind.REASONING, _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")))
        self._say(steps, Kind.TEXT, _text(delta.get("content")), _logprobs(choice))
        self._say(steps, Kind.REFUSAL, _text(delta.get("refusal")))
        calls = delta.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else []):
            if isinstance(call, dict):
                self._call(steps, place, call)
        return steps

    def end(self) -> list[Step]:
        steps: list[Step] = []
        if self._live is None:
            self._open(steps, (Kind.TEXT, 0), Block(Kind.TEXT))
        for key, block in self._held.items():
            self._close(steps, whole=True)
            self._open(steps, key, block)
        self._held = {}
        self._close(steps, whole=self.whole)
        return steps

    def _say(self, steps: list[Step], kind: Kind, text: str, logprobs: list[dict[str, Any]] | None = None) -> None:
        key: Key = (kind, 0)
        if text or (logprobs and self._live is not None and self._live[0] == key):
            self._grow(steps, key, self._block(steps, key), text, logprobs or [])

    def _call(self, steps: list[Step], place: int, call: dict[str, Any]) -> None:
        index, id = call.get("index"), _text(call.get("id"))
        key: Key = (Kind.CALL, index if isinstance(index, int) else id or place)
        function = call.get("function")
        if not isinstance(function, dict):
            function = {}
        block = self._block(steps, key)
        block.id = block.id or id
        block.name = block.name or _text(function.get("name"))
        self._grow(steps, key, block, _arguments(function.get("arguments")), [])

    def _block(self, steps: list[Step], key: Key) -> Block:
        """The block that *key* goes on with: the live one, one held back, or a new one in its place."""
        if self._live is not None and self._live[0] == key:
            return self._live[1]
        if self._live is not None and self._live[1].kind is Kind.CALL:
            return self._held.setdefault(key, Block(key[0]))
        if self._live is not None:
            self._close(steps, whole=True)
        self._live = (key, Block(key[0]))
        return self._live[1]

    def _grow(self, steps: list[Step], key: Key, block: Block, text: str, logprobs: list[dict[str, Any]]) -> None:
        if text:
            block.pieces.append(text)
        block.logprobs += logprobs
        if key in self._held:
            return
        if block.place >= 0:
            if text or logprobs:
                steps.append(Grew(block, text, logprobs))
        elif block.kind is not Kind.CALL or block.name:
            self._open(steps, key, block)

    def _open(self, steps: list[Step], key: Key, block: Block) -> None:
        self._live = (key, block)
        block.place = len(self.blocks)
        if block.kind is Kind.CALL and block.id in ("", *(earlier.id for earlier in self.blocks)):
            block.id = f"call_{self._seed}_{block.place}"
        self.blocks.append(block)
        steps.append(Opened(block))
        if block.pieces or block.logprobs:
            steps.append(Grew(block, block.text, list(block.logprobs)))

    def _close(self, steps: list[Step], *, whole: bool) -> None:
        assert self._live is not None
        key, block = self._live
        if block.place < 0:  # a call whose name never came
            self._open(steps, key, block)
        block.whole = whole
        steps.append(Closed(block))
        self._live = None


def as_chunk(document: dict[str, Any]) -> dict[str, Any]:
    """A whole chat.completion as the one chunk that says all of it."""
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return {}
    choice = choices[0]
    return {**document, "choices": [{**choice, "delta": _indexed(choice.get("message"))}]}


def usage_of(document: dict[str, Any]) -> Usage | None:
    """The counts in a whole completion; None where it has none that can be read."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None or completion is None:
        return None
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens") or 0
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0
    return Usage(prompt, completion, min(cached, prompt), min(reasoning, completion))


def _indexed(message: Any) -> Any:
    """Calls of a whole message are told apart by their place."""
    if not isinstance(message, dict) or not isinstance(message.get("tool_calls"), list):
        return message
    calls = [
        {**call, "index": place} if isinstance(call, dict) else call for place, call in enumerate(message["tool_calls"])
    ]
    return {**message, "tool_calls": calls}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: Any) -> str:
    """Some servers write the arguments as an object instead of its JSON."""
    return orjson.dumps(value).decode() if isinstance(value, dict) else _text(value)


def _logprobs(choice: dict[str, Any]) -> list[dict[str, Any]]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def _count(counts: Any, key: str) -> int | None:
    value = counts.get(key) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
