"""A fake engine that plays a script: for testing faults and measuring the gateway, never for claims about quality."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.documents import Document, DocumentsReply
from models.engine import Call, EngineError, EngineState, Health, Operation, Reply, Usage


@dataclass(frozen=True, slots=True)
class Say:
    """One piece of text, counted as one completion token, and how likely that token was (natural logarithm)."""

    text: str
    logprob: float = -0.1


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

    async def begin(self, call: Call) -> Reply:
        self.calls.append(call)
        return await DocumentsReply.begin(self._played(call), call)

    async def _played(self, call: Call) -> AsyncGenerator[Document, None]:
        finished = False
        try:
            async for document in self._stream(call) if call.stream else self._whole(call):
                yield document
            finished = True
        except EngineError:
            finished = True
            raise
        finally:
            self.abandoned += not finished

    async def _whole(self, call: Call) -> AsyncGenerator[Document, None]:
        said = [say async for say in self._said(call)]
        spoken = 0 if call.operation is Operation.EMBEDDING else len(said)
        usage = Usage(_prompt_tokens(call), spoken)
        yield Document(self._answer(call, said, usage), usage, engine_seconds=0.001 * len(said))

    def _answer(self, call: Call, said: Sequence[Say], usage: Usage) -> dict[str, Any]:
        text = "".join(say.text for say in said)
        match call.operation:
            case Operation.CHAT:
                message = {"role": "assistant", "content": text}
                logprobs = _logprobs(call, said)
                choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
                return self._document("chat.completion", [choice], usage)
            case Operation.COMPLETION:
                choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
                return self._document("text_completion", [choice], usage)
            case Operation.EMBEDDING:
                data = [{"object": "embedding", "index": 0, "embedding": [float(len(text))]}]
                counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
                return {"object": "list", "data": data, "model": self.model, "usage": counts}
            case Operation.COUNT:
                return {"object": "response.input_tokens", "input_tokens": usage.prompt_tokens}

    async def _stream(self, call: Call) -> AsyncGenerator[Document, None]:
        chat = call.operation is Operation.CHAT
        kind = "chat.completion.chunk" if chat else "text_completion"
        spoken = 0
        async for say in self._said(call):
            spoken += 1
            usage = Usage(_prompt_tokens(call), spoken)
            if chat:
                delta = {"role": "assistant", "content": say.text} if spoken == 1 else {"content": say.text}
                choice = {"index": 0, "delta": delta, "finish_reason": None}
                if call.body.get("logprobs"):
                    choice["logprobs"] = _logprobs(call, [say])
            else:
                choice = {"index": 0, "text": say.text, "finish_reason": None, "logprobs": None}
            yield Document(self._document(kind, [choice]), usage, 0.001 * spoken)
        usage = Usage(_prompt_tokens(call), spoken)
        nothing: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        last = {"index": 0, **nothing, "finish_reason": "stop"}
        yield Document(self._document(kind, [last]), usage, 0.001 * spoken)
        yield Document(self._document(kind, [], usage), usage, 0.001 * spoken)

    async def _said(self, call: Call) -> AsyncGenerator[Say, None]:
        for step in self.script(call):
            match step:
                case Say():
                    yield step
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


def _logprobs(call: Call, said: Sequence[Say]) -> dict[str, Any] | None:
    """As OpenAI's protocol has them; each further token is less likely by a factor of e."""
    if not call.body.get("logprobs"):
        return None
    count = call.body.get("top_logprobs") or 0
    return {
        "content": [
            {
                "token": say.text,
                "logprob": say.logprob,
                "bytes": None,
                "top_logprobs": [
                    {"token": say.text, "logprob": say.logprob - place, "bytes": None} for place in range(count)
                ],
            }
            for say in said
        ]
    }


def _prompt_tokens(call: Call) -> int:
    messages = call.body.get("messages") or [{"content": call.body.get("prompt") or call.body.get("input")}]
    return sum(len(str(m.get("content") or "").split()) for m in messages)
