"""Holds an answer back until it is clear whether the client may see it. Knows replies and their JSON, and no HTTP."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.second import Second
from models.engine import Call, Engine, EngineCut, EngineUnavailable, Reply, Usage, Wrapped
from models.events import DATA, documents_of, written
from prompts.form import form_of
from router.check import Check
from router.opinion import SecondOpinion
from router.signals import TOP_LOGPROBS, Signals, signals_of


class NotReleased(Exception):
    """The answer failed its check, or was not there in time. `usage` and `engine_seconds`: what it took all the same,
    where its engine has said so.
    """

    def __init__(self, says: str, usage: Usage | None, engine_seconds: float | None) -> None:
        super().__init__(says)
        self.says = says
        self.usage = usage
        self.engine_seconds = engine_seconds


def looked_at(call: Call) -> Call:
    """*call*, asking for the log-probabilities that a check needs."""
    wanted = max(TOP_LOGPROBS, call.body.get("top_logprobs") or 0)
    return replace(call, body={**call.body, "logprobs": True, "top_logprobs": wanted})


async def released(engine: Engine, call: Call, check: Check | SecondOpinion, second: Second | None = None) -> Reply:
    """What the client may see of *engine*'s answer, once *check* has passed it. *second*: whom a SecondOpinion asks.

    Raises EngineError, NotReleased.
    """
    reply: Reply | None = None
    signals: Signals | None = None
    other: str | None = None
    try:
        async with asyncio.timeout(check.hold_seconds):
            reply = await engine.begin(call if isinstance(check, SecondOpinion) else looked_at(call))
            held = _Held(reply, call)
            while not held.ended and (check.hold_tokens is None or held.tokens < check.hold_tokens):
                await held.read_on()
            signals = held.signals(check.hold_tokens)
            if second is not None and signals.is_sound:
                other = await second.text()
        if check.passes(signals, held.text, other) if isinstance(check, SecondOpinion) else check.passes(signals):
            return _Released(reply, held.blocks, held.shown)
    except TimeoutError:
        pass  # no signals, or no second opinion, so it has not passed
    except EngineCut as error:  # the client has seen nothing: as good as an engine that never began
        await _close(reply)
        raise EngineUnavailable(error.message) from error
    except BaseException:
        await _close(reply)
        raise
    await _close(reply)
    usage, engine_seconds = (reply.usage, reply.engine_seconds) if reply else (None, None)
    says = check.failure(signals, other) if isinstance(check, SecondOpinion) else check.failure(signals)
    raise NotReleased(says, usage, engine_seconds)


async def _close(reply: Reply | None) -> None:
    if reply is not None:
        await reply.close()


class _Held:
    """An answer so far: its blocks as they came, and the text and tokens in them."""

    def __init__(self, reply: Reply, call: Call) -> None:
        self.ended = False
        self._reply = reply
        self._streamed = call.stream
        form = form_of(call.body)
        self._keeps_form = form.keeps if form is not None else None
        self.blocks: list[bytes] = []
        self._tokens: list[Mapping[str, Any]] = []
        self._text: list[str] = []
        self._finish_reason: str | None = None
        self.shown = call.body.get("top_logprobs") or 0 if call.body.get("logprobs") else None
        self._take(reply.first)
        self.ended = self.ended or not self._streamed

    @property
    def tokens(self) -> int:
        return len(self._tokens) or len(self._text)

    @property
    def text(self) -> str:
        return "".join(self._text)

    def signals(self, most_tokens: int | None) -> Signals:
        """Of the whole answer if it has ended, else of its first *most_tokens*: one block may bring more."""
        tokens = self._tokens if self._finish_reason is not None else self._tokens[:most_tokens]
        return signals_of(tokens, self.text, self._finish_reason, keeps_form=self._keeps_form)

    async def read_on(self) -> None:
        block = await self._reply.more()
        if block:
            self._take(block)
        else:
            self.ended = True

    def _take(self, block: bytes) -> None:
        self.blocks.append(block)
        for document in _documents(block, streamed=self._streamed):
            for choice in document.get("choices") or ():
                said = choice.get("delta" if self._streamed else "message") or {}
                self._text.append(said.get("content") or "")
                self._tokens += (choice.get("logprobs") or {}).get("content") or ()
                self._finish_reason = choice.get("finish_reason") or self._finish_reason


class _Released(Wrapped):
    """*reply* from its first block on; *shown* most likely tokens beside each, or no log-probabilities (None)."""

    def __init__(self, reply: Reply, blocks: list[bytes], shown: int | None) -> None:
        self._streamed = blocks[0].startswith(DATA)
        self._shown = shown
        super().__init__(reply, b"".join(map(self._as_asked, blocks)))

    async def more(self) -> bytes:
        return self._as_asked(await self._reply.more())

    def _as_asked(self, block: bytes) -> bytes:
        if not block:
            return b""
        documents = [_without_logprobs(d, self._shown) for d in _documents(block, streamed=self._streamed)]
        if not self._streamed:
            return orjson.dumps(documents[0])
        return b"".join(map(written, documents))


def _documents(block: bytes, *, streamed: bool) -> list[dict[str, Any]]:
    """The JSON in a block; see `models.engine.Reply`."""
    return documents_of(block) if streamed else [orjson.loads(block)]


def _without_logprobs(document: dict[str, Any], shown: int | None) -> dict[str, Any]:
    for choice in document.get("choices") or ():
        if shown is None:
            choice["logprobs"] = None
            continue
        for token in (choice.get("logprobs") or {}).get("content") or ():
            token["top_logprobs"] = (token.get("top_logprobs") or [])[:shown]
    return document
