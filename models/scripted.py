"""A fake engine that plays a script: for testing faults and measuring the gateway, never for claims about quality."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.engine import Call, Chunk, EngineError, EngineState, Health, Usage


@dataclass(frozen=True, slots=True)
class Say:
    """One piece of text, counted as one completion token."""

    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Until *until* is set; for ever when None."""

    until: asyncio.Event | None = None


Step = Say | Wait | EngineError
Script = Sequence[Step]


@dataclass(slots=True)
class ScriptedEngine:
    """Plays `script(call)` for each call. `calls` are those begun, `abandoned` counts those closed before their end."""

    model: str
    script: Callable[[Call], Script]
    calls: list[Call] = field(default_factory=list)
    abandoned: int = 0
    state: EngineState = EngineState.STOPPED

    async def start(self) -> None:
        self.state = EngineState.READY

    async def stop(self) -> None:
        self.state = EngineState.STOPPED

    def health(self) -> Health:
        return Health(self.state)

    async def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        self.calls.append(call)
        finished = False
        try:
            async for chunk in self._stream(call) if call.stream else self._whole(call):
                yield chunk
            finished = True
        except EngineError:
            finished = True
            raise
        finally:
            self.abandoned += not finished

    async def _whole(self, call: Call) -> AsyncGenerator[Chunk, None]:
        texts = [text async for text in self._texts(call)]
        usage = Usage(_prompt_tokens(call), len(texts))
        message = {"role": "assistant", "content": "".join(texts)}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        yield Chunk(self._document("chat.completion", [choice], usage), usage, engine_seconds=0.001 * len(texts))

    async def _stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        spoken = 0
        async for text in self._texts(call):
            spoken += 1
            delta = {"role": "assistant", "content": text} if spoken == 1 else {"content": text}
            usage = Usage(_prompt_tokens(call), spoken)
            yield Chunk(self._document("chat.completion.chunk", [_choice(delta, None)]), usage, 0.001 * spoken)
        usage = Usage(_prompt_tokens(call), spoken)
        yield Chunk(self._document("chat.completion.chunk", [_choice({}, "stop")]), usage, 0.001 * spoken)
        yield Chunk(self._document("chat.completion.chunk", [], usage), usage, 0.001 * spoken)

    async def _texts(self, call: Call) -> AsyncGenerator[str, None]:
        for step in self.script(call):
            match step:
                case Say(text):
                    yield text
                case Wait(None):
                    await asyncio.get_running_loop().create_future()
                case Wait(until):
                    assert until is not None
                    await until.wait()
                case EngineError():
                    raise step

    def _document(self, kind: str, choices: list[dict[str, Any]], usage: Usage | None = None) -> dict[str, Any]:
        document: dict[str, Any] = {
            "id": "chatcmpl-scripted",
            "object": kind,
            "created": 1_700_000_000,
            "model": self.model,
            "choices": choices,
        }
        if usage is not None:
            document["usage"] = {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            }
        return document


def _choice(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _prompt_tokens(call: Call) -> int:
    return sum(len(str(m.get("content") or "").split()) for m in call.body["messages"])
