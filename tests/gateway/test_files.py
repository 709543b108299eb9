"""/v1/files with the official client: what is kept, for whom, and that nothing half-kept stays."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIStatusError, BadRequestError, NotFoundError
from sqlalchemy import text

from gateway.errors import InvalidRequest
from gateway.files import ORPHAN_SECONDS, Arriving, FileStore
from gateway.form import PARTS_LIMIT, FormReader
from gateway.ledger.database import open_database
from tests.gateway.stranger import another_caller
from tests.gateway.wire import OpenRig, connection, error_of, raw_response, until
from tests.rig import Rig

pytestmark = pytest.mark.anyio

CONTENT = b"\x00\xff\r\n--boundary\r\n" + bytes(range(256)) * 40


def contents(r: Rig) -> list[Path]:
    return sorted((r.runtime.settings.data_dir / "files").glob("*"))


async def test_a_file_comes_back_as_it_was_sent(rig: OpenRig) -> None:
    async with rig() as r:
        file = await r.client.files.create(file=("né w.bin", CONTENT), purpose="user_data")
        assert (file.bytes, file.filename, file.object, file.status) == (len(CONTENT), "né w.bin", "file", "processed")
        assert file.purpose == "user_data"
        assert (await r.client.files.retrieve(file.id)) == file
        assert (await r.client.files.content(file.id)).content == CONTENT
        deleted = await r.client.files.delete(file.id)
        assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
        assert contents(r) == []
        for call in (r.client.files.retrieve, r.client.files.content, r.client.files.delete):
            with pytest.raises(NotFoundError) as caught:
                await call(file.id)
            assert caught.value.code == "file_not_found"


async def test_files_are_listed_by_page_in_either_order_and_by_purpose(rig: OpenRig) -> None:
    async with rig() as r:
        made = [
            (await r.client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch" if n % 2 else "vision")).id
            for n in range(7)
        ]
        assert [file.id async for file in r.client.files.list()] == made[::-1]
        assert [file.id async for file in r.client.files.list(order="asc", limit=2)] == made
        assert [file.id async for file in r.client.files.list(limit=3)] == made[::-1]
        assert [file.id async for file in r.client.files.list(purpose="batch", limit=1)] == made[1::2][::-1]
        page = await r.client.files.list(limit=2, order="asc")
        assert page.has_more
        assert [file.id for file in page.data] == made[:2]
        with pytest.raises(NotFoundError) as caught:
            await r.client.files.list(after="file-nothing")
        assert caught.value.param == "after"


async def test_a_wrong_parameter_of_a_list_is_a_400_that_names_it(rig: OpenRig) -> None:
    async with rig() as r:
        for query, param in (
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("order=up", "order"),
            ("limit=10001", "limit"),
        ):
            response = await r.http.get(f"/v1/files?{query}")
            assert response.status_code == 400
            assert error_of(response)["param"] == param


async def test_each_caller_sees_only_its_own_files(rig: OpenRig) -> None:
    async with rig() as r, another_caller(r) as other:
        mine = await r.client.files.create(file=("a", b"mine"), purpose="user_data")
        theirs = await other.files.create(file=("a", b"theirs"), purpose="user_data")
        assert [file.id async for file in r.client.files.list()] == [mine.id]
        for call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(NotFoundError):
                await call(mine.id)
        with pytest.raises(NotFoundError):
            await r.client.files.list(after=theirs.id)
        assert (await r.client.files.content(mine.id)).content == b"mine"


async def test_a_name_is_a_name_and_never_a_path(rig: OpenRig) -> None:
    async with rig() as r:
        for name in ("../../../etc/passwd", "/etc/passwd", "a\x01b", "x" * 400, ".."):
            file = await r.client.files.create(file=(name, b"x"), purpose="user_data")
            assert len(file.filename) <= 256
            assert "/" not in file.filename
            assert file.filename.isprintable()
            assert (await r.client.files.content(file.id)).content == b"x"
        assert {path.name for path in contents(r)} == {file.id async for file in r.client.files.list()}


async def test_a_file_may_be_larger_than_other_bodies_up_to_its_own_limit(rig: OpenRig) -> None:
    async with rig(body_limit_bytes=2000, file_limit_bytes=100_000) as r:
        file = await r.client.files.create(file=("a", b"x" * 100_000), purpose="user_data")
        assert file.bytes == 100_000
        for size in (100_001, 1_000_000):
            with pytest.raises(APIStatusError) as caught:
                await r.client.files.create(file=("a", b"x" * size), purpose="user_data")
            assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
            assert "POINTSMAN_FILE_LIMIT_BYTES" in caught.value.message
        assert len(contents(r)) == 1
        assert (await r.http.post("/v1/feedback", content=b" " * 2001)).status_code == 413


async def test_a_body_without_a_length_ends_at_the_limit_and_leaves_nothing(rig: OpenRig) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield form_head(b"file", b"a")
        for _ in range(40):
            yield b"x" * 65_536

    async with rig(file_limit_bytes=100_000) as r:
        response = await r.http.post("/v1/files", content=pieces(), headers={"content-type": MULTIPART})
        assert response.status_code == 413
        error_of(response)
        assert contents(r) == []


async def test_whoever_leaves_within_an_upload_leaves_nothing(rig: OpenRig) -> None:
    async with rig() as r:
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {r.key}\r\n"
            f"content-type: {MULTIPART}\r\ncontent-length: 5000000\r\n\r\n"
        )
        async with connection(r, head.encode() + form_head(b"file", b"a") + b"x" * 2_000_000):
            await until(lambda: any(path.stat().st_size for path in contents(r)), 5)
        await until(lambda: contents(r) == [], 5)


MULTIPART = "multipart/form-data; boundary=b"


def form_head(name: bytes, filename: bytes | None = None) -> bytes:
    file = b'; filename="' + filename + b'"' if filename is not None else b""
    return b'--b\r\ncontent-disposition: form-data; name="' + name + b'"' + file + b"\r\n\r\n"


def form(*parts: tuple[bytes, bytes | None, bytes]) -> bytes:
    return b"".join(form_head(name, filename) + value + b"\r\n" for name, filename, value in parts) + b"--b--\r\n"


PURPOSE = (b"purpose", None, b"batch")
FILE = (b"file", b"a.jsonl", b"{}")
WRONG_FORMS = {
    "no purpose": form(FILE),
    "odd purpose": form((b"purpose", None, b"\xff\xfe"), FILE),
    "no file": form(PURPOSE),
    "file is a field": form(PURPOSE, (b"file", None, b"{}")),
    "two files": form(PURPOSE, FILE, FILE),
    "another file": form(PURPOSE, FILE, (b"other", b"b", b"x")),
    "long field": form((b"purpose", None, b"x" * 5000), FILE),
    "many parts": form(*([PURPOSE] * (PARTS_LIMIT + 1)), FILE),
    "expires": form(PURPOSE, (b"expires_after[seconds]", None, b"3600"), FILE),
    "cut": form(PURPOSE, FILE)[:-4],
    "nameless": b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--\r\n",
    "no headers": b"--b\r\n\r\nx\r\n--b--\r\n",
    "not a form": b"hello",
    "empty": b"",
}


@pytest.mark.parametrize("body", WRONG_FORMS.values(), ids=WRONG_FORMS)
async def test_a_wrong_form_is_a_400_and_leaves_nothing(rig: OpenRig, body: bytes) -> None:
    async with rig() as r:
        response = await r.http.post("/v1/files", content=body, headers={"content-type": MULTIPART})
        assert response.status_code == 400, response.text
        error_of(response)
        assert contents(r) == []


@pytest.mark.parametrize(
    "kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "x;boundary=b"]
)
async def test_what_is_no_form_at_all_is_a_400(rig: OpenRig, kind: str) -> None:
    async with rig() as r:
        response = await r.http.post("/v1/files", content=form(PURPOSE, FILE), headers={"content-type": kind})
        assert response.status_code == 400
        assert error_of(response)["code"] == "invalid_form"


async def test_the_purpose_may_come_after_the_file(rig: OpenRig) -> None:
    async with rig() as r:
        response = await r.http.post("/v1/files", content=form(FILE, PURPOSE), headers={"content-type": MULTIPART})
        assert response.status_code == 200
        assert response.json()["purpose"] == "batch"


@given(st.binary(max_size=300), st.lists(st.integers(0, 500), max_size=6))
def test_however_a_form_is_cut_into_pieces_its_file_is_the_same(content: bytes, cuts: list[int]) -> None:
    if b"\r\n--b" in b"\r\n" + content:
        content = b""
    whole = form(PURPOSE, (b"file", b"a", content))
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    reader = FormReader(MULTIPART)
    got = b"".join(reader.feed(whole[start:end]) for start, end in pairwise(places))
    reader.end()
    assert got == content
    assert (reader.fields, reader.filename) == ({"purpose": "batch"}, "a")


@given(st.binary(max_size=300))
def test_a_form_is_read_or_refused_and_nothing_else(body: bytes) -> None:
    reader = FormReader(MULTIPART)
    try:
        reader.feed(form_head(b"file", b"a") + body)
        reader.end()
    except InvalidRequest:
        return
    assert reader.filename == "a"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_a_507_and_leaves_nothing(
    rig: OpenRig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(self: Arriving, piece: bytes) -> None:
        raise OSError(number, os.strerror(number))

    async with rig() as r:
        monkeypatch.setattr(Arriving, "write", full)
        with pytest.raises(APIStatusError) as caught:
            await r.client.files.create(file=("a", b"x"), purpose="user_data")
        assert (caught.value.status_code, caught.value.code) == (507, "storage_full")
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert contents(r) == []


async def test_a_database_that_takes_no_row_is_a_503_and_leaves_nothing(rig: OpenRig) -> None:
    def break_table() -> None:
        database = open_database(r.runtime.settings.database)
        with database.begin() as connection:
            connection.execute(text("alter table files rename to gone"))
        database.dispose()

    async with rig() as r:
        await asyncio.to_thread(break_table)
        with pytest.raises(APIStatusError) as caught:
            await r.client.files.create(file=("a", b"x"), purpose="user_data")
        assert (caught.value.status_code, caught.value.code) == (503, "server_is_overloaded")
        assert contents(r) == []


def test_contents_without_a_row_go_when_they_are_old(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    store = FileStore(database, tmp_path)
    arrived = store.begin()
    arrived.write(b"kept")
    kept = store.keep(arrived, "me", "a", "batch")
    orphan, fresh = tmp_path / "files" / "file-orphan", tmp_path / "files" / "fresh.part"
    for path in (orphan, fresh):
        path.write_bytes(b"x")
    long_ago = time.time() - ORPHAN_SECONDS - 1
    for path in (orphan, kept.path):
        os.utime(path, (long_ago, long_ago))
    store.sweep()
    database.dispose()
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == sorted([kept.id, "fresh.part"])


async def test_a_form_that_lies_about_its_end_is_answered(rig: OpenRig) -> None:
    """What follows the last boundary is nobody's content."""
    async with rig() as r:
        body = form(PURPOSE, FILE) + b"more"
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {r.key}\r\n"
            f"content-type: {MULTIPART}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        async with connection(r, head.encode() + body) as reader:
            response = await raw_response(reader)
        assert response.status_code == 200
        assert response.json()["bytes"] == 2


async def test_a_wrong_purpose_is_told_by_the_client(rig: OpenRig) -> None:
    async with rig() as r:
        with pytest.raises(BadRequestError) as caught:
            await r.client.files.create(file=("a", b"x"), purpose="batch_output")  # type: ignore[arg-type]
        assert caught.value.param == "purpose"
