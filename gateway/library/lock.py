"""`prompts.lock`: which version the files of each prompt are, and its digest. Written by a sync, kept with the files:
so another database gives the same content the same number, and what has changed since is known.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import orjson

from gateway.library.errors import FolderRefused

LOCK = "prompts.lock"
MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Locked:
    version: int
    digest: str


def read_lock(folder: Path) -> Mapping[str, Locked]:
    """Empty where there is none. Raises FolderRefused."""
    path = folder / LOCK
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FolderRefused(f"{path}: is larger than {MOST_BYTES:,} bytes; delete it, a sync writes it anew")
        said = orjson.loads(path.read_bytes())
        return {prompt: Locked(int(one["version"]), str(one["digest"])) for prompt, one in said.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FolderRefused(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FolderRefused(
            f"{path}: is not what a sync has written ({type(error).__name__}: {error}); take it from version control, "
            "or delete it"
        ) from error


def write_lock(folder: Path, locked: Mapping[str, Locked]) -> None:
    """Whole or not at all; not touched where it says so already. Raises OSError."""
    said = {prompt: {"version": one.version, "digest": one.digest} for prompt, one in locked.items()}
    text = orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    path = folder / LOCK
    with suppress(OSError):
        if path.read_bytes() == text:
            return
    with NamedTemporaryFile(dir=folder, prefix=f".{LOCK}.", delete=False) as new:
        new.write(text)
    os.chmod(new.name, 0o644)
    os.replace(new.name, path)
