"""The process that works: `python -m models.compress` in a Python that has torch. A job in, lines of events out."""

import json
import sys
from pathlib import Path
from typing import Any, TextIO

from models.compress.job import REFUSED, RESULT, Refused, Step, line_of
from models.compress.jobs import JOBS
from models.compress.work import Work


def main() -> int:
    events, sys.stdout = sys.stdout, sys.stderr  # libraries print; only events go where events are read
    job = json.load(sys.stdin)

    def tell(step: Step) -> None:
        _write(events, line_of(step))

    try:
        settings = job["settings"]
        work = Work(Path(job["work"]), {"job": job["job"], **settings})
        _write(events, {RESULT: JOBS[job["job"]]()(settings, work, tell)})
    except Refused as refused:
        _write(events, {REFUSED: str(refused)})
        return 1
    return 0


def _write(events: TextIO, line: dict[str, Any]) -> None:
    events.write(json.dumps(line) + "\n")
    events.flush()


if __name__ == "__main__":
    sys.exit(main())
