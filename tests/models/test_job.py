"""Work in another Python: its result, its errors and its end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from models.job import JobFailed, Step, run
from tests.processes import alive, children, until

HERE = Path(__file__).parents[2]
END_TIMEOUT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def asked(do: str, **settings: Any) -> dict[str, Any]:
    return run(Path(sys.executable), "tests.models.some_job", {"do": do, **settings}, seen.append)


seen: list[Step] = []


def test_settings_go_in_steps_and_the_result_come_out() -> None:
    seen.clear()
    result = asked("answer", text="ä\n", number=1.5)

    assert result["saw"] == {"do": "answer", "text": "ä\n", "number": 1.5}
    assert result["process"] != os.getpid()
    assert seen == [Step("working", 1, 2)]


@pytest.mark.parametrize(
    ("do", "told"),
    [
        ("refuse", "^it cannot be done; do this instead$"),
        ("break", "^ValueError: a bug$"),
        ("die", "(?s)ended with status 7 .*the last words"),
    ],
)
def test_a_job_that_fails_says_why(do: str, told: str) -> None:
    with pytest.raises(JobFailed, match=told):
        asked(do)


def test_a_module_that_is_not_there_is_an_error_and_no_hang() -> None:
    with pytest.raises(JobFailed, match="No module named"):
        run(Path(sys.executable), "tests.models.no_such_job", {})


def test_an_interrupted_job_ends_at_once() -> None:
    """Ctrl-C comes as a signal while the result is waited for."""
    before = children(os.getpid())
    seen.clear()
    killer = threading.Thread(target=_interrupt_once_it_works)
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        asked("sleep")
    killer.join()

    until(lambda: not children(os.getpid()) - before, END_TIMEOUT_SECONDS, "the job's process ends")


def _interrupt_once_it_works() -> None:
    until(lambda: bool(seen), END_TIMEOUT_SECONDS, "the job says what it is at")
    time.sleep(0.5)  # then its next word is waited for: a signal just before that would be seen after it only
    os.kill(os.getpid(), signal.SIGINT)


def test_it_does_not_outlive_who_asked() -> None:
    program = "import sys; from pathlib import Path; from models.job import run\n" + (
        "run(Path(sys.executable), 'tests.models.some_job', {'do': 'sleep'}, lambda s: print(s.what, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "working\n"
        [job] = children(parent.pid)
        parent.kill()

    until(lambda: not alive(job), END_TIMEOUT_SECONDS, "the job ends with whoever asked")
