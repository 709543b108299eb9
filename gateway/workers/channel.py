"""Questions and answers between two processes of ours, over a pair of sockets: a JSON object a line, either may ask.

It closes when either process ends, however that happens. Knows no gateway.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

import orjson

LINE_LIMIT_BYTES = 64 * 2**20  # settings with all rows: a kilobyte for each model

Answering = Callable[[Any], Awaitable[Any]]


class Closed(Exception):
    """The other process has ended, or is about to."""


class Failed(Exception):
    """The other process could not do what it was asked to; the message says why."""


class Channel:
    """One end. `answers` has a function for each kind of question; more may be put there later."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Mapping[str, Answering]
    ) -> None:
        self.answers = dict(answers)
        self.closed = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._listening = asyncio.create_task(self._listen(), name="channel")

    @classmethod
    async def open(cls, end: socket.socket, answers: Mapping[str, Answering]) -> "Channel":
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=LINE_LIMIT_BYTES)
        return cls(reader, writer, answers)

    async def ask(self, kind: str, told: object = None) -> Any:
        """The answer to a question, of which *told* is JSON. Raises Closed, Failed."""
        if self.closed.is_set():
            raise Closed
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._write({"ask": kind, "number": number, "told": told})
            return await future
        finally:
            del self._asked[number]

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.wait({self._listening})
        self._end()

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                message = orjson.loads(line)
                if "ask" in message:
                    task = asyncio.create_task(self._answer(message), name=f"answer {message['ask']}")
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                else:
                    self._take(message)
        except OSError:
            pass  # the other process was killed
        finally:
            self._end()

    def _end(self) -> None:
        self.closed.set()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(Closed())
        self._writer.close()

    async def _answer(self, message: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"number": message["number"]}
        try:
            answer["told"] = await self.answers[message["ask"]](message["told"])
        except Exception as error:  # it is the asking process that knows what to do about it
            answer["failed"] = str(error) or type(error).__name__
        self._write(answer)

    def _take(self, answer: Mapping[str, Any]) -> None:
        future = self._asked.get(answer["number"])
        if future is None or future.done():
            return  # whoever asked has gone
        if "failed" in answer:
            future.set_exception(Failed(answer["failed"]))
        else:
            future.set_result(answer["told"])

    def _write(self, message: object) -> None:
        with suppress(OSError):  # its end shows where we read
            self._writer.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
