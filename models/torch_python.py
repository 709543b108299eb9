"""Which Python has torch. It may be the gateway's own, and often is not: torch is 3 GB and wants other versions of what
the gateway needs. Knows how to ask; what runs there is `models.job` and `models.process`.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

VARIABLE = "POINTSMAN_TORCH_PYTHON"
ASK_TIMEOUT_SECONDS = 60.0  # an interpreter starts in a tenth of a second; from a cold disk under load it may take long
REMEDY = f"make torch installs them into .venv-torch; then set {VARIABLE}=.venv-torch/bin/python"

# Prints those of its arguments that cannot be found, and so of our own package.
_ASK = """
import sys
from importlib.util import find_spec
print(*[name for name in ["models", *sys.argv[1:]] if not find_spec(name)])
"""
_ASK_DISTRIBUTION = """
import sys
from importlib.metadata import distributions
print(*{*sys.argv[1:]} - {found.name for found in distributions()})
"""


class NoTorch(Exception):
    """No Python here can do what is asked; the message names what is missing and the remedy."""


def torch_python(modules: Sequence[str], named: Path | None = None) -> Path:
    """The interpreter that can import *modules*: the one *named* in the settings, else this one. Raises NoTorch.

    They are looked for and not imported, which takes seconds.
    """
    if named is None:
        missing = tuple(name for name in modules if find_spec(name) is None)
        if missing:
            raise NoTorch(f"{_listed(missing)} not installed beside the gateway: {REMEDY}")
        return Path(sys.executable)
    # Not resolved: the name of a virtual environment's interpreter is how it knows its packages.
    path = Path(os.path.abspath(named.expanduser()))
    missing = _missing(path, tuple(modules))
    if "models" in missing:
        raise NoTorch(f"{VARIABLE}={named} does not have Pointsman: {path} -m pip install --no-deps pointsman")
    if missing:
        raise NoTorch(f"{VARIABLE}={named}: {_listed(missing)} not installed there: {REMEDY}")
    return path


def has_distribution(python: Path, name: str) -> bool:
    """Whether *python* has the package *name*, as it is called where packages are had from. Raises NoTorch."""
    return not _told(python, _ASK_DISTRIBUTION, (name,))


def environment() -> dict[str, str]:
    """That of a process which runs there: nothing in it asks a network for anything, or draws bars into logs."""
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    return {**os.environ, **quiet}


def _missing(python: Path, modules: tuple[str, ...]) -> tuple[str, ...]:
    return _told(python, _ASK, modules)


def _told(python: Path, program: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """What *program* prints, in words. Raises NoTorch."""
    try:
        asked = subprocess.run(  # noqa: S603  # the operator's interpreter, a list, no shell
            [str(python), "-P", "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoTorch(f"{VARIABLE}={python} is no Python that can be started ({error}): {REMEDY}") from error
    return tuple(asked.stdout.split())


def _listed(modules: Sequence[str]) -> str:
    return f"{', '.join(modules)} {'is' if len(modules) == 1 else 'are'}"
