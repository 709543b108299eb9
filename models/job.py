"""Work that needs torch, done in the Python that has it: settings go in, what it is at and its result come out.

Both sides are here. `run` is the gateway's: it starts `python -P -m MODULE` with the settings as one JSON line on
standard input. `answer` is the module's: it writes a JSON line for each thing it is at, and one for the result. The
work ends when its standard input closes, so it cannot outlive whoever asked for it.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.torch_python import environment

SAID_BYTES = 2000  # of the end of standard error, when a job dies without a word


@dataclass(frozen=True, slots=True)
class Step:
    """What a job is at: *done* of *total*, in whatever it counts."""

    what: str
    done: float = 0
    total: float = 0


OnStep = Callable[[Step], None]


class JobFailed(Exception):
    """The job cannot do it; the message is for the operator, and says the remedy."""


def run(python: Path, module: str, settings: Mapping[str, Any], on_step: OnStep = lambda _: None) -> dict[str, Any]:
    """The result of *module*'s work, in *python*. What it writes on standard error is shown when it fails.

    Raises JobFailed. Interrupted, it ends the work before it raises.
    """
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(  # noqa: S603  # the operator's interpreter, a list, no shell
            [str(python), "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(),
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(settings) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                said = json.loads(line)
                if "result" in said:
                    return dict(said["result"])
                if "error" in said:
                    raise JobFailed(said["error"])
                on_step(Step(**said["step"]))
            status = process.wait()
        except BrokenPipeError:
            status = process.wait()
        finally:
            process.stdin.close()
            process.kill()
        log.seek(0)
        last = log.read()[-SAID_BYTES:].decode(errors="replace").strip()
    raise JobFailed(f"{module} ended with status {status} before it was done\n{last}")


def answer(work: Callable[[dict[str, Any], OnStep], Mapping[str, Any]]) -> None:
    """For the module's `main`: read the settings, do the work, write its result. What *work* raises as JobFailed is
    told as it is, anything else with its type, the trace on standard error.
    """
    settings = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print where they like; standard output is ours

    def say(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        say(result=dict(work(settings, lambda step: say(step=asdict(step)))))
    except JobFailed as error:
        say(error=str(error))
        raise SystemExit(3) from None
    except BaseException as error:
        say(error=f"{type(error).__name__}: {str(error)[:SAID_BYTES]}")
        raise


def _end_with_input() -> None:
    while sys.stdin.read(4096):
        pass
    os._exit(1)
