"""What the kernel says about processes (Linux's /proc), and waiting for it to say something else."""

import time
from collections.abc import Callable
from pathlib import Path

from gateway.cli.compress import resources

POLL_SECONDS = 0.05


def until(happened: Callable[[], bool], timeout_seconds: float, what: str) -> float:
    """Wait until *happened*; returns after how many seconds it had. Fails when it has not in time."""
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < timeout_seconds, f"not within {timeout_seconds:g} s: {what}"
        time.sleep(POLL_SECONDS)
    return time.monotonic() - start


def alive(process_id: int) -> bool:
    """False for a zombie too: it computes nothing and holds nothing."""
    fields = _stat(process_id)
    return fields is not None and fields[0] != "Z"


def cpu_seconds(process_id: int) -> float:
    """What all threads of the process have computed so far, 0 when it is gone."""
    return resources.cpu_seconds({process_id}) or 0.0


def children(process_id: int) -> set[int]:
    """Those that live now."""
    found = set()
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdecimal() else None
        if fields is not None and int(fields[1]) == process_id and fields[0] != "Z":
            found.add(int(entry.name))
    return found


def _stat(process_id: int) -> list[str] | None:
    """proc(5), /proc/PID/stat from its third field on: state, parent, ...; None when there is no such process."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()  # the second field is the program's name, which may hold blanks
