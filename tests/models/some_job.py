"""Jobs of the tests, as `python -m tests.models.some_job`: what is asked for goes wrong, or right."""

import os
import sys
import time
from typing import Any

from models.job import JobFailed, OnStep, Step, answer


def work(settings: dict[str, Any], on_step: OnStep) -> dict[str, Any]:
    print("libraries print where they like")
    on_step(Step("working", 1, 2))
    match settings["do"]:
        case "answer":
            return {"saw": settings, "process": os.getpid()}
        case "refuse":
            raise JobFailed("it cannot be done; do this instead")
        case "break":
            raise ValueError("a bug")
        case "die":
            sys.stderr.write("the last words\n")
            sys.stderr.flush()
            os._exit(7)
        case _:
            time.sleep(600)
            return {}


if __name__ == "__main__":
    answer(work)
