"""Runs batches: each line goes the way of a live request, behind the live ones, until the batch's window closes.

Whatever happens to this process, a line that was answered is not asked again, and each has one line in the output or in
the error file. Knows no HTTP but the status of an answer.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError

from gateway.batches import OPEN, Batch, Counts, Problem, Status
from gateway.batching.lines import Input, Line
from gateway.batching.part import FOLDER, SUFFIX, Part
from gateway.files import OUTPUT_PURPOSE, Arriving
from gateway.guard import Errand, Returned, run_errand
from gateway.runtime import Runtime
from gateway.threads import to_its_end

log = structlog.get_logger(__name__)

PRIORITY = 10  # live requests are 0: a batch waits for them
BATCHES_AT_ONCE = 16  # run by one process; each holds a file open and the ids of its lines
POLL_SECONDS = 2.0  # for what other processes created or cancelled, and for what went wrong
COUNT_SECONDS = 1.0  # between two looks at how far a batch is, as clients see it
BACKOFF_SECONDS = 1.0  # after the first refusal for want of room; doubles with each
BACKOFF_LIMIT_SECONDS = 60.0
DISK_SECONDS = 5.0  # until a full disk is tried again
RETRIED = (429, 503)

EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
CANCELLED = ("batch_cancelled", "The batch was cancelled before this request was executed.")


@dataclass(slots=True)
class _Run:
    """One batch on its way. `stop` is set when no more may be asked: it was cancelled, or its window closed."""

    batch: Batch
    part: Part
    input: Input
    places: asyncio.Semaphore  # lines begun and not answered, waiting ones too
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    counted_at: float = float("-inf")

    @property
    def counts(self) -> Counts:
        answered, failed = len(self.part.answered), self.part.failed
        return Counts(self.batch.counts.total, answered - failed, failed)


class BatchRunner:
    """One for each process; several may run beside each other on one data directory."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        """*runtime* gives the one that serves now; a reload changes how it answers, not where batches are kept."""
        self._runtime = runtime
        self._batches = runtime().batches
        self._files = runtime().files
        self._data_dir = runtime().settings.data_dir
        self._wake = runtime().wake_batches
        self._runs: dict[str, _Run | None] = {}  # None while one is about to begin
        self._places = asyncio.Semaphore(runtime().settings.batch_parallel)

    async def run(self) -> None:
        """Until cancelled."""
        await self._tidy()
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                try:
                    await self._look(group)
                except Exception:
                    log.exception("batches cannot be read now")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        for batch in await to_its_end(self._batches.open):
            run = self._runs.get(batch.id)
            if run is not None and batch.cancelling:
                run.stop.set()
            if batch.id not in self._runs and len(self._runs) < BATCHES_AT_ONCE:
                self._runs[batch.id] = None
                group.create_task(self._guarded(batch))

    async def _guarded(self, batch: Batch) -> None:
        """A fault in one batch leaves the others alone; it is tried again later."""
        try:
            part = await to_its_end(Part.take, self._data_dir, batch.id)
            if part is not None:
                try:
                    await self._run(batch.id, part)
                finally:
                    part.close()
        except Exception:
            log.exception("batch interrupted; it goes on later", batch=batch.id)
        finally:
            del self._runs[batch.id]

    async def _run(self, id: str, part: Part) -> None:
        """As far as it goes, from wherever another process has left it."""
        batch = await self._get(id)
        run = await self._begin(batch, part)
        try:
            if batch.status is Status.VALIDATING:
                await self._validate(run)
                run.batch = await self._get(id)
            if run.batch.status is Status.IN_PROGRESS:
                await self._ask_all(run)
                await self._to(id, Status.FINALIZING, run.counts)
                run.batch = await self._get(id)
            if run.batch.status in (Status.FINALIZING, Status.CANCELLING):
                await self._finish(run)
        except FileNotFoundError as error:
            log.error("the input of a batch is gone", batch=id, error=str(error))
            problem = Problem("file_not_found", "the input file is not there any more")
            await to_its_end(lambda: self._batches.advance(id, Status.FAILED, problems=[problem]))
        if (await self._get(id)).status not in OPEN:
            part.delete()

    async def _begin(self, batch: Batch, part: Part) -> _Run:
        settings = self._runtime().settings
        file = await to_its_end(self._files.find, batch.input_file, batch.caller)
        path = file.path if file is not None else self._data_dir / FOLDER / "gone"
        lines = Input(path, batch.endpoint, settings.body_limit_bytes)
        run = _Run(batch, part, lines, asyncio.Semaphore(settings.batch_parallel))
        if batch.cancelling:
            run.stop.set()
        self._runs[batch.id] = run
        return run

    async def _validate(self, run: _Run) -> None:
        total, problems = await to_its_end(run.input.check)
        status = Status.FAILED if problems else Status.IN_PROGRESS
        counts = Counts(0 if problems else total)
        await to_its_end(lambda: self._batches.advance(run.batch.id, status, counts=counts, problems=problems))

    async def _ask_all(self, run: _Run) -> None:
        """Until every line has an answer, or none may be asked any more."""
        left_seconds = (run.batch.expires_at - datetime.now(UTC)).total_seconds()
        timer = asyncio.get_running_loop().call_later(max(0.0, left_seconds), run.stop.set)
        if left_seconds <= 0:
            run.stop.set()
        try:
            async with asyncio.TaskGroup() as group, aclosing(self._unanswered(run)) as lines:
                async for line in lines:
                    await run.places.acquire()
                    if run.stop.is_set():
                        break
                    group.create_task(self._answer(run, line))
        finally:
            timer.cancel()

    async def _unanswered(self, run: _Run) -> AsyncGenerator[Line, None]:
        """Lines of the input that no process has answered; read in a thread, for a disk may be slow."""
        lines = (line for line in run.input if line.custom_id not in run.part.answered)
        while (line := await to_its_end(next, lines, None)) is not None:
            yield line

    async def _answer(self, run: _Run, line: Line) -> None:
        try:
            returned = await self._ask(run, line)
            if returned is not None:
                await self._append(run, _answered(line.custom_id, returned))
                await self._count(run)
        finally:
            run.places.release()

    async def _ask(self, run: _Run, line: Line) -> Returned | None:
        """None when it was stopped. Again and again where there is no room: there is time."""
        errand = Errand(run.batch.endpoint, line.body, run.batch.caller, PRIORITY)
        backoff_seconds = BACKOFF_SECONDS
        while True:
            async with self._places:
                if run.stop.is_set():
                    return None
                returned = await run_errand(self._runtime(), errand, run.stop)
            if returned.status is None:
                return None
            if returned.status not in RETRIED or returned.headers.get(b"x-should-retry") == b"false":
                return returned
            seconds = max(_retry_after_seconds(returned), backoff_seconds * random.uniform(0.5, 1))  # noqa: S311  # jitter
            with suppress(TimeoutError):
                await asyncio.wait_for(run.stop.wait(), seconds)
            backoff_seconds = min(2 * backoff_seconds, BACKOFF_LIMIT_SECONDS)

    async def _append(self, run: _Run, line: dict[str, Any]) -> None:
        """An answer has been paid for: on a full disk it waits in memory."""
        while True:
            try:
                run.part.append(line)
            except OSError as error:
                log.error("an answer cannot be written", batch=run.batch.id, error=str(error))
                await asyncio.sleep(DISK_SECONDS)
            else:
                return

    async def _count(self, run: _Run) -> None:
        now = asyncio.get_running_loop().time()
        if now - run.counted_at >= COUNT_SECONDS:
            run.counted_at = now
            with suppress(SQLAlchemyError):  # the next count makes up for it
                await to_its_end(self._batches.count, run.batch.id, run.counts)

    async def _finish(self, run: _Run) -> None:
        """Say of each line that was not asked why, and make files of the lines."""
        batch = run.batch
        if batch.times["in_progress_at"] is None:  # cancelled before its input was found to be valid
            await self._to(batch.id, Status.CANCELLED, batch.counts)
            return
        reason = CANCELLED if batch.cancelling else EXPIRED
        status = Status.CANCELLED if batch.cancelling else Status.COMPLETED
        async for line in self._unanswered(run):
            await self._append(run, _unasked(line.custom_id, *reason))
        await to_its_end(self._publish, run, status)

    def _publish(self, run: _Run, status: Status) -> None:
        """In a thread. Done twice, it leaves what it leaves done once."""
        batch, stem = run.batch, f"file-{run.batch.id.removeprefix('batch_')}"
        output, errors = self._files.begin(), self._files.begin()
        try:
            for is_answer, raw in run.part.lines():
                (output if is_answer else errors).write(raw)
                if status is Status.COMPLETED and not is_answer and _is_expired(raw):
                    status = Status.EXPIRED
            output_id = self._keep(output, batch, f"{stem}o", f"{batch.id}_output.jsonl")
            error_id = self._keep(errors, batch, f"{stem}e", f"{batch.id}_error.jsonl")
        finally:
            output.drop()
            errors.drop()
        self._batches.advance(batch.id, status, counts=run.counts, output_file=output_id, error_file=error_id)

    def _keep(self, made: Arriving, batch: Batch, id: str, name: str) -> str | None:
        """None for a file without a line."""
        return self._files.keep(made, batch.caller, name, OUTPUT_PURPOSE, id).id if made.size_bytes else None

    async def _get(self, id: str) -> Batch:
        return await to_its_end(self._batches.get, id)

    async def _to(self, id: str, status: Status, counts: Counts) -> None:
        await to_its_end(lambda: self._batches.advance(id, status, counts=counts))

    async def _tidy(self) -> None:
        """Remove what dead processes left of batches and files that are done."""
        with suppress(OSError, SQLAlchemyError):  # what is left this time is removed the next
            await to_its_end(self._files.sweep)
            await to_its_end(self._tidy_parts)

    def _tidy_parts(self) -> None:
        for path in sorted((self._data_dir / FOLDER).glob(f"*{SUFFIX}")):
            part = Part.take(self._data_dir, path.stem)
            if part is not None:
                if path.stem not in {batch.id for batch in self._batches.open()}:
                    part.delete()
                part.close()


def _answered(custom_id: str, returned: Returned) -> dict[str, Any]:
    response = {
        "status_code": returned.status,
        "request_id": returned.request_id,
        "body": _document(returned.body),
    }
    return {"id": _line_id(), "custom_id": custom_id, "response": response, "error": None}


def _unasked(custom_id: str, code: str, message: str) -> dict[str, Any]:
    return {"id": _line_id(), "custom_id": custom_id, "response": None, "error": {"code": code, "message": message}}


def _line_id() -> str:
    return f"batch_req_{secrets.token_hex(12)}"


def _document(body: bytes) -> Any:
    """On one line, whatever an engine has written; a text where it is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")


def _is_expired(raw: bytes) -> bool:
    error = orjson.loads(raw)["error"]
    return error is not None and error["code"] == EXPIRED[0]


def _retry_after_seconds(returned: Returned) -> float:
    said = returned.headers.get(b"retry-after", b"")
    return float(said) if said.isdigit() else 0.0
