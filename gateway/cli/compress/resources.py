"""What Linux's /proc says an engine takes: its processes, their memory, their processor time. None elsewhere."""

import os
import platform
from pathlib import Path

KILOBYTE = 1024


def family(process_id: int) -> set[int]:
    """The process and all that it has started and that lives."""
    found = {process_id}
    for path in Path(f"/proc/{process_id}/task").glob("*/children"):
        try:
            for child in path.read_text(encoding="utf-8").split():
                found |= family(int(child))
        except OSError:
            continue
    return found


def memory_bytes(process_ids: set[int]) -> int | None:
    """What they hold together; a page that several share is counted once, each having its part of it (PSS)."""
    total = 0
    for process_id in process_ids:
        try:
            lines = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * KILOBYTE or None


def cpu_seconds(process_ids: set[int]) -> float | None:
    """User and system time so far, of all their threads, those that have ended included."""
    total = 0
    for process_id in process_ids:
        try:
            said = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
        except OSError:
            continue
        user, system = said.rpartition(")")[2].split()[11:13]  # a name may hold anything; proc(5), fields 14 and 15
        total += int(user) + int(system)
    return total / os.sysconf("SC_CLK_TCK") or None


def processor(field: str) -> str:
    """What /proc/cpuinfo says of the first one; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def machine() -> str:
    """For the reader of a table. The load says how quiet it was."""
    name = processor("model name") or platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, load {os.getloadavg()[0]:.1f}"


def counter_joules() -> float | None:
    """The processor's own meter of energy (RAPL), where this machine shows it."""
    total = 0
    for path in Path("/sys/class/powercap").glob("intel-rapl:[0-9]/energy_uj"):
        try:
            total += int(path.read_text(encoding="utf-8"))
        except OSError:
            return None
    return total / 1e6 or None
