"""The file of answers: whole lines survive, one process at a time has it."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.part import FOLDER, Part


def answer(custom_id: str, status: int | None = 200) -> dict[str, Any]:
    response = None if status is None else {"status_code": status, "request_id": "req_1", "body": {}}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def taken(folder: Path, id: str = "batch_1") -> Part:
    part = Part.take(folder, id)
    assert part is not None
    return part


def test_only_one_has_it_at_a_time(tmp_path: Path) -> None:
    first = taken(tmp_path)
    assert Part.take(tmp_path, "batch_1") is None
    first.close()
    taken(tmp_path).close()


@given(ids=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=6), cut=st.integers(0, 2000))
def test_wherever_a_process_is_killed_whole_lines_stay_and_the_next_goes_on(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("part")
    part = taken(folder)
    for id in ids:
        part.append(answer(id))
    part.close()
    path = folder / FOLDER / "batch_1.jsonl"
    left = path.read_bytes()[: min(cut, path.stat().st_size)]
    path.write_bytes(left)
    part = taken(folder)
    whole = left.count(b"\n")
    assert part.answered == set(ids[:whole])
    for id in ids[whole:]:
        part.append(answer(id, 500))
    assert [orjson.loads(raw)["custom_id"] for _, raw in part.lines()] == ids
    assert part.failed == len(ids) - whole
    part.close()


def test_a_line_that_the_disk_took_in_part_is_gone_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = taken(tmp_path)
    part.append(answer("a"))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, written: write(descriptor, written[:5]))
        with pytest.raises(OSError, match="part of a line"):
            part.append(answer("b"))
    assert part.answered == {"a"}
    part.append(answer("c"))
    assert [orjson.loads(raw)["custom_id"] for _, raw in part.lines()] == ["a", "c"]
    part.close()


def test_answers_and_errors_are_told_apart(tmp_path: Path) -> None:
    part = taken(tmp_path)
    for id, status in (("ok", 200), ("refused", 400), ("unasked", None)):
        part.append(answer(id, status))
    assert [is_answer for is_answer, _ in part.lines()] == [True, False, False]
    part.delete()
    part.close()
    assert list((tmp_path / FOLDER).iterdir()) == []
