"""The journal: what it says of a process that has died, whatever the disk did to it meanwhile."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from unittest.mock import patch

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.ledger import journal as journal_module
from gateway.ledger.charge import Charge, Outcome
from gateway.ledger.journal import Journal, abandoned
from gateway.ledger.rows import COLUMNS, ID, OUTCOME, Row, row_of
from tests.gateway.test_ledger import CHARGE

Write = Callable[[int, bytes], int]
REAL_WRITE: Write = os.write


def row(request_id: str, outcome: Outcome = Outcome.OK, **known: str) -> Row:
    return row_of(CHARGE._replace(id=request_id, outcome=outcome, **known))  # type: ignore[arg-type]  # text fields


def die(journal: Journal) -> None:
    """As the kernel does it for a killed process: what it had open is closed, and so unlocked; its files stay."""
    for segment in [*journal._retired, *filter(None, [journal._segment])]:
        with suppress(OSError):  # a test may have closed it within a write
            os.close(segment.descriptor)
    journal._retired.clear()
    journal._segment = None


def left(folder: Path) -> list[tuple[str, str]]:
    """Id and outcome of each row that dead processes left, in order; their files are gone then."""
    found: list[tuple[str, str]] = []
    with closing(abandoned(folder)) as segments:
        for segment in segments:
            found += [(row[ID], row[OUTCOME]) for row in segment.rows]
            segment.finish()
    return found


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    die(opened)


def test_a_dead_process_leaves_all_it_had_to_say(journal: Journal, tmp_path: Path) -> None:
    assert journal.intend(row("a", Outcome.LOST))
    assert journal.intend(row("b", Outcome.LOST))
    assert journal.record(row("a"))
    die(journal)
    assert left(tmp_path) == [("a", "lost"), ("b", "lost"), ("a", "ok")]
    assert names(tmp_path) == []


def test_what_a_living_process_writes_is_nobody_elses(journal: Journal, tmp_path: Path) -> None:
    journal.record(row("a"))
    assert left(tmp_path) == []
    assert len(names(tmp_path)) == 1


def test_while_one_takes_a_file_up_nobody_else_gets_it(journal: Journal, tmp_path: Path) -> None:
    journal.record(row("a"))
    die(journal)
    with closing(abandoned(tmp_path)) as segments:
        segment = next(segments)
        assert left(tmp_path) == []
        segment.finish()
    assert left(tmp_path) == []


def test_a_file_that_was_not_finished_is_found_again(journal: Journal, tmp_path: Path) -> None:
    journal.record(row("a"))
    die(journal)
    with closing(abandoned(tmp_path)) as segments:
        next(segments)
    assert left(tmp_path) == [("a", "ok")]


def test_nobody_but_the_owner_may_read_it(journal: Journal) -> None:
    segment = journal.record(row("a"))
    assert segment is not None
    assert segment.path.stat().st_mode & 0o777 == 0o600


def test_a_full_segment_goes_when_the_database_has_its_charges(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1)
    journal.intend(row("long", Outcome.LOST))
    first = journal.record(row("a"))
    second = journal.record(row("b"))
    assert first is not None
    assert second is not None
    assert first is not second
    journal.tidy()
    assert first.path.exists()
    first.written += 1
    journal.tidy()
    assert not first.path.exists()
    die(journal)
    assert ("long", "lost") in left(tmp_path), "what is still open goes along into the new segment"


def test_a_closed_journal_keeps_what_the_database_does_not_have(journal: Journal, tmp_path: Path) -> None:
    journal.record(row("a"))
    journal.close()
    assert left(tmp_path) == [("a", "ok")]


def test_a_closed_journal_keeps_what_never_ended(journal: Journal, tmp_path: Path) -> None:
    journal.intend(row("a", Outcome.LOST))
    journal.close()
    assert left(tmp_path) == [("a", "lost")]


def test_a_closed_journal_with_nothing_to_say_is_gone(journal: Journal, tmp_path: Path) -> None:
    journal.intend(row("a", Outcome.LOST))
    segment = journal.record(row("a"))
    assert segment is not None
    segment.written += 1
    journal.close()
    assert names(tmp_path) == []


@pytest.mark.parametrize("cut_bytes", [1, 2, 50, 10_000])
def test_a_file_cut_anywhere_gives_its_whole_lines(journal: Journal, tmp_path: Path, cut_bytes: int) -> None:
    journal.record(row("a"))
    segment = journal.record(row("b"))
    assert segment is not None
    die(journal)
    content = segment.path.read_bytes()
    segment.path.write_bytes(content[: max(0, len(content) - cut_bytes)])
    found = left(tmp_path)
    whole = [("a", "ok"), ("b", "ok")]
    assert found == whole[: {1: 2, 2: 1, 50: 1, 10_000: 0}[cut_bytes]]
    assert names(tmp_path) == []


def test_lines_that_cannot_be_read_are_kept_for_the_operator(journal: Journal, tmp_path: Path) -> None:
    segment = journal.record(row("a"))
    assert segment is not None
    os.write(segment.descriptor, b'["b",null\n{}\n[1]\n')
    journal.record(row("c"))
    die(journal)
    with capture_logs() as logs:
        assert left(tmp_path) == [("a", "ok"), ("c", "ok")]
    assert [(log["log_level"], log["lines"]) for log in logs] == [("error", 3)]
    assert names(tmp_path) == [segment.path.with_suffix(".unreadable").name]


def test_a_journal_of_another_version_is_read_by_its_columns_names(tmp_path: Path) -> None:
    known = [name for name in reversed(COLUMNS) if name != "team"]
    values = dict(zip(COLUMNS, row("a"), strict=True))
    lines = [{"columns": [*known, "from_the_future"]}, [*(values[name] for name in known), 1]]
    (tmp_path / "1-a.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    with closing(abandoned(tmp_path)) as segments:
        [segment] = segments
    assert segment.rows == (row("a"),)


# A disk that takes nothing.


def taking(count: int | None) -> Write:
    """An `os.write` that takes *count* bytes and then says that the disk is full; None: takes all."""

    def write(descriptor: int, content: bytes) -> int:
        if count is None:
            return REAL_WRITE(descriptor, content)
        if count:
            return REAL_WRITE(descriptor, content[:count])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write


@pytest.mark.parametrize("count", [0, 1, 100])
@pytest.mark.parametrize("truncates", [True, False])
def test_what_a_full_disk_cut_spoils_no_other_line(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, truncates: bool
) -> None:
    def refuse(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if not truncates:
        monkeypatch.setattr(os, "ftruncate", refuse)
    assert journal.record(row("a")) is not None
    monkeypatch.setattr(os, "write", taking(count))
    with capture_logs() as logs:
        assert journal.record(row("b")) is None
        assert journal.record(row("c")) is None
        monkeypatch.setattr(os, "write", taking(None))
        assert journal.record(row("d")) is not None
    assert journal.errors == 2
    assert [log["event"] for log in logs] == ["journal cannot be written", "journal can be written again"]
    die(journal)
    assert left(tmp_path) == [("a", "ok"), ("d", "ok")]


def test_a_folder_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    journal = Journal(blocked / "journal")
    assert not journal.intend(row("a", Outcome.LOST))
    assert journal.record(row("a")) is None
    blocked.unlink()
    assert journal.record(row("b")) is not None
    die(journal)
    assert left(blocked / "journal") == [("b", "ok")]


def test_a_segment_goes_on_when_no_new_one_can_be_begun(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1)
    journal.record(row("a"))

    def refuse(folder: Path, carried: bytes) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(journal_module, "_begin_segment", refuse)
    assert journal.record(row("b")) is not None
    die(journal)
    assert left(tmp_path) == [("a", "ok"), ("b", "ok")]


def test_a_value_that_json_cannot_say_is_told_and_spoils_nothing(journal: Journal, tmp_path: Path) -> None:
    odd: Charge = CHARGE._replace(prompt_tokens=2**70)
    assert journal.record(row_of(odd)) is None
    assert journal.errors == 1
    assert journal.record(row("b")) is not None
    die(journal)
    assert left(tmp_path) == [("b", "ok")]


def test_a_cut_after_a_line_that_stayed_torn_spares_what_came_between(journal: Journal, tmp_path: Path) -> None:
    """The disk is full twice: the first time what was written of a line cannot be cut off, the second time it can."""
    assert journal.intend(row("before", Outcome.LOST))
    with patch.object(os, "write", taking(2)), patch.object(os, "ftruncate", side_effect=OSError):
        assert journal.record(row("torn")) is None
    assert journal.intend(row("between", Outcome.LOST))
    with patch.object(os, "write", taking(0)):
        assert journal.record(row("cut")) is None
    die(journal)

    assert {request_id for request_id, _ in left(tmp_path)} == {"before", "between"}
