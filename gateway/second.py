"""A second opinion on an answer, asked for while the answer is made. Knows calls and replies, and no HTTP."""

import asyncio
from dataclasses import replace

import structlog

from gateway.learning.answered import said
from models.engine import Call, Engine, EngineError, Usage

log = structlog.get_logger(__name__)

# How the answer is sent and looked at, and what a server keeps of it: no matter of another model's.
NOT_SENT = frozenset({"logprobs", "metadata", "store", "stream", "stream_options", "top_logprobs"})


class Second:
    """Begins at once. Whatever goes wrong, there is no second opinion then, and nothing else fails. Close every one.

    `usage` and `engine_seconds`: what it took, where its engine has said so.
    """

    def __init__(self, engine: Engine, call: Call) -> None:
        self.usage: Usage | None = None
        self.engine_seconds: float | None = None
        body = {name: value for name, value in call.body.items() if name not in NOT_SENT}
        asked = replace(call, body=body, stream=False, include_usage=False)
        self._task = asyncio.create_task(self._ask(engine, asked), name="second opinion")

    async def text(self) -> str | None:
        """What it says; None where it says nothing that came to its own end."""
        return await self._task

    async def close(self) -> None:
        """Nobody waits for it any more."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _ask(self, engine: Engine, call: Call) -> str | None:
        try:
            reply = await engine.begin(call)
            try:
                self.usage, self.engine_seconds = reply.usage, reply.engine_seconds
                told = said([reply.first], streamed=False)
            finally:
                await reply.close()
        except EngineError as error:
            log.info("there is no second opinion", request_id=call.request_id, error=error.message)
            return None
        except Exception:  # the client gets the safe answer
            log.exception("a second opinion failed", request_id=call.request_id)
            return None
        return told.text if told is not None and told.is_whole else None
