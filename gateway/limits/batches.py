"""Calls of Redis scripts; those of one moment go in one round trip, over one connection. Knows nothing of limits."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError


@dataclass(frozen=True, slots=True)
class Script:
    """Lua, and the name under which Redis keeps it."""

    text: str
    sha: str


def script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class _Call:
    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | int]
    answer: asyncio.Future[Any]


class Batches:
    """One connection; whoever asks while a round trip is under way is in the next."""

    def __init__(self, client: Redis, deadline_seconds: float) -> None:
        self._client = client
        self._deadline_seconds = deadline_seconds
        self._waiting: list[_Call] = []
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Raises RedisError, OSError or TimeoutError, at the latest after the deadline of the round trip under way."""
        call = _Call(script, keys, arguments, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await call.answer

    async def close(self) -> None:
        if self._sending is not None:
            await self._sending
        await self._client.aclose()

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    answers = await self._execute(batch)
            except (RedisError, OSError, TimeoutError) as error:
                batch, self._waiting = batch + self._waiting, []  # nobody waits for a second deadline
                answers = [error] * len(batch)
            for call, answer in zip(batch, answers, strict=True):
                if call.answer.done():
                    continue
                if isinstance(answer, Exception):
                    call.answer.set_exception(answer)
                else:
                    call.answer.set_result(answer)

    async def _execute(self, batch: list[_Call]) -> list[Any]:
        answers = await self._evaluate(batch)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # the first time, and after Redis was started anew
            for text in {batch[place].script.text for place in unknown}:
                await self._client.script_load(text)
            for place, answer in zip(unknown, await self._evaluate([batch[p] for p in unknown]), strict=True):
                answers[place] = answer
        return answers

    async def _evaluate(self, batch: list[_Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in batch:
            pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.arguments)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers
