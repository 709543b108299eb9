"""/v1/batches with the official client: every request has one line at the end, whatever happens on the way."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import orjson
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError
from openai.types import Batch
from sqlalchemy import update

from gateway.batching import runner
from gateway.batching.part import Part
from gateway.ledger.database import open_database
from gateway.ledger.tables import batches
from models.engine import Call, EngineBusy, EngineRefused
from models.scripted import Say, Script, Wait
from tests.gateway.stranger import another_caller
from tests.gateway.wire import OpenRig, chat, until
from tests.rig import CATALOG, Rig, running_rig

pytestmark = pytest.mark.anyio

Url = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
CHAT: Url = "/v1/chat/completions"
ENDED = {"completed", "failed", "expired", "cancelled"}
TIMEOUT_SECONDS = 20.0
ROOMY = CATALOG.replace("engine: scripted", "engine: scripted\n    parallel: 8")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(runner, "COUNT_SECONDS", 0.0)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.05)


def line(custom_id: object, *, url: str = CHAT, **body: Any) -> bytes:
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": {**(body or chat("large"))}}
    return orjson.dumps(request) + b"\n"


def asking(text: str) -> dict[str, Any]:
    return {"model": "large", "messages": [{"role": "user", "content": text}]}


async def create(client: AsyncOpenAI, content: bytes, endpoint: Url = CHAT, **fields: Any) -> Batch:
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, **{"completion_window": "24h", **fields}
    )


async def ended(client: AsyncOpenAI, id: str) -> Batch:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (batch := await client.batches.retrieve(id)).status not in ENDED:  # noqa: ASYNC110  # clients poll
            await asyncio.sleep(0.02)
    return batch


async def lines_of(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [orjson.loads(raw) for raw in (await client.files.content(file_id)).content.splitlines()]


async def results(client: AsyncOpenAI, batch: Batch) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of the output file, and of the error file."""
    output, errors = await lines_of(client, batch.output_file_id), await lines_of(client, batch.error_file_id)
    for one in (*output, *errors):
        assert set(one) == {"id", "custom_id", "response", "error"}
    ids = [one["id"] for one in (*output, *errors)]
    assert len(set(ids)) == len(ids)
    return output, errors


def ids_of(lines: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(one["custom_id"] for one in lines)


def echo(call: Call) -> Script:
    return [Say(f"to {call.body['messages'][0]['content']}")]


async def test_a_batch_answers_each_request_as_a_live_one_would_be(rig: OpenRig) -> None:
    async with rig(large=echo) as r:
        content = b"".join(line(f"c{n}", **asking(f"q{n}")) for n in range(9)) + b"\n" + line("no", **chat("nobody"))
        created = await create(r.client, content, metadata={"who": "me"})
        assert (created.status, created.object, created.metadata) == ("validating", "batch", {"who": "me"})
        batch = await ended(r.client, created.id)
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 10, "completed": 9, "failed": 1}
        assert batch.errors is None
        assert batch.in_progress_at is not None
        assert batch.finalizing_at is not None
        assert batch.completed_at is not None
        assert batch.expires_at == batch.created_at + 24 * 3600
        output, errors = await results(r.client, batch)
        assert ids_of(output) == [f"c{n}" for n in range(9)]
        for one in output:
            assert (one["error"], one["response"]["status_code"]) == (None, 200)
            said = one["response"]["body"]["choices"][0]["message"]["content"]
            assert said == f"to q{one['custom_id'][1:]}"
        [wrong] = errors
        assert (wrong["custom_id"], wrong["response"]["status_code"], wrong["error"]) == ("no", 404, None)
        assert wrong["response"]["body"]["error"]["code"] == "model_not_found"
        rows = await r.charges(10)
        assert {row["id"] for row in rows} == {one["response"]["request_id"] for one in (*output, *errors)}
        callers = {(row["caller"], row["operation"]) for row in rows}
        assert callers == {(r.runtime.keys.list()[0].id, "batch")}
        assert Counter(row["outcome"] for row in rows) == {"ok": 9, "refused": 1}
        assert {call.priority for call in r.engines["large"].calls} == {runner.PRIORITY}
        for file_id, purpose in ((batch.output_file_id, "batch_output"), (batch.error_file_id, "batch_output")):
            assert file_id is not None
            assert (await r.client.files.retrieve(file_id)).purpose == purpose
        assert list((r.runtime.settings.data_dir / "batches").iterdir()) == []


async def test_a_live_request_comes_before_a_batch(rig: OpenRig) -> None:
    async with rig() as r:
        await r.client.chat.completions.create(model="large", messages=[{"role": "user", "content": "x"}])
        assert r.engines["large"].calls[0].priority == 0


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/completions", {"model": "large", "prompt": "a b"}, "text_completion"),
        ("/v1/embeddings", {"model": "large", "input": "a b"}, "list"),
        ("/v1/responses", {"model": "large", "input": "a b"}, "response"),
    ],
)
async def test_each_endpoint_answers_in_its_own_words(
    rig: OpenRig, endpoint: Url, body: dict[str, Any], kind: str
) -> None:
    catalog = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 1000, abilities: [chat, completions, embeddings]}
  - {name: large, engine: scripted, tier: 1, context_tokens: 2000, abilities: [chat, completions, embeddings]}
"""
    async with rig(catalog=catalog) as r:
        batch = await ended(r.client, (await create(r.client, line("a", url=endpoint, **body), endpoint)).id)
        [one], _ = await results(r.client, batch)
        assert one["response"]["body"]["object"] == kind


BAD_LINES = {
    b"{not json": "invalid_json_line",
    b'["a list"]': "invalid_json_line",
    b'{"method": "POST", "url": "/v1/chat/completions", "body": {}}': "missing_required_parameter",
    line("").strip(): "missing_required_parameter",
    line(7).strip(): "missing_required_parameter",
    line("good").strip(): "duplicate_custom_id",
    line("u", url="/v1/embeddings").strip(): "url_mismatch",
    line("m").replace(b"POST", b"GET").strip(): "invalid_method",
    b'{"custom_id": "b", "method": "POST", "url": "/v1/chat/completions"}': "missing_required_parameter",
    line("s", **chat(stream=True)).strip(): "stream_not_supported",
}


async def test_an_input_that_is_not_valid_fails_with_each_line_named_and_asks_nobody(rig: OpenRig) -> None:
    async with rig() as r:
        batch = await ended(r.client, (await create(r.client, line("good") + b"\n".join(BAD_LINES))).id)
        assert batch.status == "failed"
        assert batch.failed_at is not None
        assert batch.errors is not None
        told = [(one.line, one.code) for one in batch.errors.data or []]
        assert told == list(enumerate(BAD_LINES.values(), start=2))
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        assert r.engines["large"].calls == []
        await r.charges(0)


@pytest.mark.parametrize("content", [b" ", b"\n\n \n"])
async def test_an_empty_input_fails(rig: OpenRig, content: bytes) -> None:
    async with rig() as r:
        batch = await ended(r.client, (await create(r.client, content)).id)
        assert batch.errors is not None
        assert [one.code for one in batch.errors.data or []] == ["empty_file"]


async def test_a_line_longer_than_any_request_may_be_fails(rig: OpenRig) -> None:
    async with rig(body_limit_bytes=2000) as r:
        batch = await ended(r.client, (await create(r.client, line("a", **asking("x" * 20_000)) + line("b"))).id)
        assert batch.errors is not None
        assert [(one.code, one.line) for one in batch.errors.data or []] == [("line_too_long", 1)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_file_id": "file-nothing"}, "input_file_id"),
        ({"endpoint": "/v1/messages"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "169h"}, "completion_window"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
    ],
)
async def test_what_cannot_be_created_is_refused_by_name(rig: OpenRig, fields: dict[str, Any], param: str) -> None:
    async with rig() as r:
        file = await r.client.files.create(file=("in", line("a")), purpose="batch")
        with pytest.raises(APIStatusError) as caught:
            await r.client.batches.create(
                **{"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **fields}
            )
        assert caught.value.status_code in (400, 404)
        assert caught.value.param == param


async def test_a_file_for_something_else_is_no_input(rig: OpenRig) -> None:
    async with rig() as r:
        file = await r.client.files.create(file=("in", line("a")), purpose="user_data")
        with pytest.raises(BadRequestError, match="user_data"):
            await r.client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


async def test_each_caller_sees_only_its_own_batches_and_files(rig: OpenRig) -> None:
    async with rig() as r, another_caller(r) as other:
        mine = await ended(r.client, (await create(r.client, line("a"))).id)
        theirs = await ended(other, (await create(other, line("a"))).id)
        assert [batch.id async for batch in r.client.batches.list()] == [mine.id]
        assert [batch.id async for batch in other.batches.list()] == [theirs.id]
        for call in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(NotFoundError):
                await call(mine.id)
        assert mine.output_file_id is not None
        with pytest.raises(NotFoundError):
            await other.files.content(mine.output_file_id)
        with pytest.raises(NotFoundError):
            await other.batches.create(input_file_id=mine.input_file_id, endpoint=CHAT, completion_window="24h")
        assert len({row["caller"] for row in await r.charges(2)}) == 2


async def test_batches_are_listed_newest_first_by_page(rig: OpenRig) -> None:
    async with rig() as r:
        made = [(await create(r.client, line("a"))).id for _ in range(5)]
        assert [batch.id async for batch in r.client.batches.list(limit=2)] == made[::-1]
        for id in made:
            await ended(r.client, id)


async def test_no_more_requests_are_answered_at_a_time_than_the_setting_says(rig: OpenRig) -> None:
    """Of all batches together."""
    gate = asyncio.Event()
    async with rig(large=lambda call: [Wait(gate), Say("x")], batch_parallel=3, catalog=ROOMY) as r:
        created = [await create(r.client, b"".join(line(f"{n}") for n in range(8))) for _ in range(2)]
        await until(lambda: len(r.engines["large"].calls) == 3, 5)
        await r.client.models.list()
        assert len(r.engines["large"].calls) == 3
        gate.set()
        for batch in created:
            assert (await ended(r.client, batch.id)).status == "completed"


async def test_a_busy_engine_is_asked_again_until_it_has_room(rig: OpenRig) -> None:
    refusals = Counter[str]()

    def busy_twice(call: Call) -> Script:
        text = call.body["messages"][0]["content"]
        refusals[text] += 1
        return [EngineBusy("full", retry_after_seconds=0.0001) if refusals[text] <= 2 else Say("there")]

    async with rig(large=busy_twice) as r:
        content = b"".join(line(f"{n}", **asking(f"{n}")) for n in range(2))
        output, errors = await results(r.client, await ended(r.client, (await create(r.client, content)).id))
        assert (ids_of(output), errors) == (["0", "1"], [])
        assert set(refusals.values()) == {3}


async def test_an_engine_that_refuses_is_not_asked_again(rig: OpenRig) -> None:
    async with rig(large=lambda call: [EngineRefused("no", status=422)]) as r:
        batch = await ended(r.client, (await create(r.client, line("a"))).id)
        _, [wrong] = await results(r.client, batch)
        assert (batch.status, wrong["response"]["status_code"], batch.output_file_id) == ("completed", 422, None)
        assert len(r.engines["large"].calls) == 1


async def test_a_cancelled_batch_stops_its_engine_and_keeps_what_was_answered(rig: OpenRig) -> None:
    def third_hangs(call: Call) -> Script:
        return [Wait()] if call.body["messages"][0]["content"] == "2" else [Say("x")]

    async with rig(large=third_hangs, batch_parallel=1) as r:
        created = await create(r.client, b"".join(line(f"{n}", **asking(f"{n}")) for n in range(5)))
        await until(lambda: len(r.engines["large"].calls) == 3, 5)
        assert (await r.client.batches.cancel(created.id)).status == "cancelling"
        batch = await ended(r.client, created.id)
        assert (batch.status, batch.cancelling_at is not None, batch.cancelled_at is not None) == (
            "cancelled",
            True,
            True,
        )
        output, errors = await results(r.client, batch)
        assert (ids_of(output), ids_of(errors)) == (["0", "1"], ["2", "3", "4"])
        assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
        assert Counter(row["outcome"] for row in await r.charges(3)) == {"ok": 2, "gone": 1}
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 5, "completed": 2, "failed": 3}
        assert (await r.client.batches.cancel(created.id)).status == "cancelled"


async def test_what_has_ended_is_not_cancelled(rig: OpenRig) -> None:
    async with rig() as r:
        batch = await ended(r.client, (await create(r.client, line("a"))).id)
        with pytest.raises(BadRequestError, match="completed") as caught:
            await r.client.batches.cancel(batch.id)
        assert caught.value.code == "batch_ended"


def expire(r: Rig, id: str) -> None:
    database = open_database(r.runtime.settings.database)
    with database.begin() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(batches).where(batches.c.id == id).values(expires_at=past))
    database.dispose()


async def test_what_is_not_answered_within_the_window_is_said_to_have_expired(tmp_path: Path) -> None:
    def second_hangs(call: Call) -> Script:
        return [Wait()] if call.body["messages"][0]["content"] == "1" else [Say("x")]

    async with running_rig(tmp_path, large=second_hangs, batch_parallel=1) as r:
        created = await create(r.client, b"".join(line(f"{n}", **asking(f"{n}")) for n in range(3)))
        await until(lambda: len(r.engines["large"].calls) == 2, 5)
        await anyio.to_thread.run_sync(expire, r, created.id)
        key = r.key
    async with running_rig(tmp_path) as r, AsyncOpenAI(base_url=f"{r.base_url}/v1", api_key=key) as client:
        batch = await ended(client, created.id)
        assert (batch.status, batch.expired_at is not None) == ("expired", True)
        output, errors = await results(client, batch)
        assert (ids_of(output), ids_of(errors)) == (["0"], ["1", "2"])
        assert {one["error"]["code"] for one in errors} == {"batch_expired"}
        assert r.engines["large"].calls == []


async def test_a_restart_in_the_middle_answers_what_is_left_and_nothing_twice(tmp_path: Path) -> None:
    def last_half_hangs(call: Call) -> Script:
        return [Wait()] if int(call.body["messages"][0]["content"]) >= 6 else [Say("first")]

    def again(call: Call) -> Script:
        return [Say("second")]

    async with running_rig(tmp_path, large=last_half_hangs, catalog=ROOMY) as r:
        created = await create(r.client, b"".join(line(f"{n}", **asking(f"{n}")) for n in range(12)))
        await until(lambda: len(r.engines["large"].calls) == 8, 5)
        key = r.key
    async with running_rig(tmp_path, large=again) as r, AsyncOpenAI(base_url=f"{r.base_url}/v1", api_key=key) as client:
        batch = await ended(client, created.id)
        output, errors = await results(client, batch)
        assert (batch.status, errors) == ("completed", [])
        assert Counter(one["custom_id"] for one in output) == {f"{n}": 1 for n in range(12)}
        said = {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in output}
        assert said == {f"{n}": "first" if n < 6 else "second" for n in range(12)}
        assert len(r.engines["large"].calls) == 6


async def test_a_batch_that_another_process_runs_is_left_to_it(rig: OpenRig) -> None:
    async with rig() as r:
        file = await r.client.files.create(file=("in", line("a")), purpose="batch")
        held: list[Part] = []
        take = Part.take

        def other_was_faster(data_dir: Path, batch_id: str) -> Part | None:
            if not held:
                part = take(data_dir, batch_id)
                assert part is not None
                held.append(part)
            return take(data_dir, batch_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Part, "take", other_was_faster)
            created = await r.client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            await until(lambda: bool(held), 5)
            await r.client.models.list()
            assert (await r.client.batches.retrieve(created.id)).status == "validating"
            held[0].close()
            assert (await ended(r.client, created.id)).status == "completed"
        assert len(r.engines["large"].calls) == 1


async def test_the_input_of_a_running_batch_is_not_deleted(rig: OpenRig) -> None:
    gate = asyncio.Event()
    async with rig(large=lambda call: [Wait(gate), Say("x")]) as r:
        created = await create(r.client, line("a"))
        with pytest.raises(BadRequestError) as caught:
            await r.client.files.delete(created.input_file_id)
        assert caught.value.code == "file_in_use"
        gate.set()
        await ended(r.client, created.id)
        assert (await r.client.files.delete(created.input_file_id)).deleted


async def test_an_input_that_is_gone_fails_the_batch(rig: OpenRig) -> None:
    async with rig(batch_parallel=1) as r:
        file = await r.client.files.create(file=("in", line("a")), purpose="batch")
        stored = r.runtime.settings.data_dir / "files" / file.id
        await anyio.to_thread.run_sync(stored.unlink)
        created = await r.client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        batch = await ended(r.client, created.id)
        assert batch.errors is not None
        assert [one.code for one in batch.errors.data or []] == ["file_not_found"]


async def test_a_revoked_key_spends_nothing_more(rig: OpenRig) -> None:
    def then_revoke(call: Call) -> Script:
        return [Wait(gate), Say("x")]

    gate = asyncio.Event()
    async with rig(large=then_revoke, batch_parallel=1) as r, another_caller(r) as other:
        stored = r.runtime.batches.get
        created = await create(other, line("a") + line("b"))
        await until(lambda: len(r.engines["large"].calls) == 1, 5)
        [record] = [record for record in r.runtime.keys.list() if record.name == "another"]
        await anyio.to_thread.run_sync(r.runtime.keys.revoke, record.id)
        gate.set()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (batch := await asyncio.to_thread(stored, created.id)).status not in ENDED:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (batch.counts.completed, batch.counts.failed) == (1, 1)
        assert len(r.engines["large"].calls) == 1


async def test_a_full_disk_keeps_an_answer_waiting_and_loses_none(
    rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Part.append
    failures: list[dict[str, Any]] = []

    def full_at_first(part: Part, one: dict[str, Any]) -> None:
        if len(failures) < 3:
            failures.append(one)
            raise OSError(28, "No space left on device")
        append(part, one)

    monkeypatch.setattr(Part, "append", full_at_first)
    monkeypatch.setattr(runner, "DISK_SECONDS", 0.001)
    async with rig() as r:
        output, _ = await results(r.client, await ended(r.client, (await create(r.client, line("a") + line("b"))).id))
        assert ids_of(output) == ["a", "b"]
        assert len(r.engines["large"].calls) == 2
