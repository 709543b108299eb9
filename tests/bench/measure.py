"""What Linux's /proc says a gateway has used: all of its processes, with their children and threads."""

import os
from pathlib import Path

from gateway.cli.compress.resources import processor

NANOSECONDS = 1e-9
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(process_ids: set[int]) -> float:
    """User and system time so far. From the scheduler's own account, in nanoseconds: a cheap gateway takes less than
    one tick of the clock for a whole load. A thread that ends takes its share with it.
    """
    return NANOSECONDS * sum(_scheduled_ns(process_id) for process_id in process_ids)


def resident_bytes(process_ids: set[int]) -> int:
    return PAGE_BYTES * sum(int(Path(f"/proc/{p}/statm").read_text(encoding="utf-8").split()[1]) for p in process_ids)


def machine() -> str:
    """One line for the reader of a table."""
    cpu = processor("model name") or "an unnamed processor"
    release = os.uname()
    return f"{os.cpu_count()} cores of {cpu}, {release.sysname} {release.release.split('-')[0]}"


def _scheduled_ns(process_id: int) -> int:
    total = 0
    for task in Path(f"/proc/{process_id}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text(encoding="utf-8").split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return total
