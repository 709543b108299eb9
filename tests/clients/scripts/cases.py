"""The cases of one client, each tried by itself. Runs in `.venv-clients`, where nothing of Pointsman is installed."""

import json
import os
import sys
import traceback
from collections.abc import Callable

URL = os.environ["POINTSMAN_URL"]
KEY = os.environ["POINTSMAN_KEY"]
SMALL = os.environ["POINTSMAN_SMALL"]
LARGE = os.environ["POINTSMAN_LARGE"]
EMBEDDER = os.environ["POINTSMAN_EMBEDDER"]

Case = Callable[[], object]


def main(*cases: Case) -> None:
    """Print what each case returned or raised. Arguments of the command name the cases to try; all when none."""
    chosen = [case for case in cases if not sys.argv[1:] or case.__name__ in sys.argv[1:]]
    print(json.dumps({case.__name__: _outcome(case) for case in chosen}))


def _outcome(case: Case) -> dict[str, object]:
    try:
        return {"returned": case()}
    except Exception:
        return {"raised": traceback.format_exc()}


def raised_by(case: Case) -> str:
    """The name of the exception that *case* raises, as the client calls it."""
    try:
        case()
    except Exception as error:
        return type(error).__name__
    return "nothing"
