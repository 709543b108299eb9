"""Lets a Python that has torch do a job, and tells how far it is. The caller's own Python needs no torch."""

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.compress.job import DOING, REFUSED, RESULT, Refused, Tell, step_of

ROOT = Path(__file__).resolve().parents[2]  # from where `models` can be imported
SHOWN_LINES = 8  # of what a process said before it died


def do(python: Path, job: str, settings: Mapping[str, Any], work: Path, tell: Tell) -> dict[str, Any]:
    """The result. Raises Refused, also where the process dies; what it finished stays in *work*. Ctrl-C ends both."""
    document = json.dumps({"job": job, "settings": settings, "work": str(work)})
    work.mkdir(parents=True, exist_ok=True)
    said = work / f"{job}.log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(said, "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(  # noqa: S603  # a list, no shell; the program is the operator's Python
            [str(python), "-m", "models.compress"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            encoding="utf-8",
        )
        try:
            return _result(process, document, tell)
        except _Ended:
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
        finally:
            process.wait()
        log.seek(0)
        last = "".join(log.readlines()[-SHOWN_LINES:]).strip()
    raise Refused(f"{job}: its process ended with {status}:\n{last}\nThe whole of it: {said}. What is done is kept")


class _Ended(Exception):
    """The process said no more."""


def _result(process: subprocess.Popen[str], document: str, tell: Tell) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as job:
        job.write(document)
    with process.stdout as lines:
        for text in lines:
            line = json.loads(text)
            if DOING in line:
                tell(step_of(line))
            elif REFUSED in line:
                raise Refused(line[REFUSED])
            elif RESULT in line:
                return dict(line[RESULT])
    raise _Ended
