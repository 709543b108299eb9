"""The files of one folder, read within limits; what is wrong with them is gathered, so that all of it is told at once.

Nothing outside the folder is read. Knows no prompts.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from prompts.plainyaml import Document, parse_plain
from prompts.yamlfile import YamlError, one_line, problems_in

DOCUMENT_BYTES = 256 * 1024
MOST_BYTES = 64 * 1024 * 1024  # of all files that are read
MOST_ENTRIES = 20_000  # files and folders
MOST_LEVELS = 9  # of folders: a name of eight parts, and _partials
MOST_TOLD = 100  # faults

Said = TypeVar("Said", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `line` and `column` from 1; None where it is the file as a whole."""

    path: Path
    line: int | None
    column: int | None
    says: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)
        return one_line(f"{place}: {self.says}")


class LoadRefused(ValueError):
    """A folder is not loaded, not even in part. `faults`: all that is wrong in it, by file and line."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(sorted(set(faults), key=lambda f: (str(f.path), f.line or 0, f.column or 0, f.says)))
        told = [str(fault) for fault in self.faults[:MOST_TOLD]]
        if len(self.faults) > MOST_TOLD:
            told.append(f"and {len(self.faults) - MOST_TOLD} more")
        super().__init__("\n".join(told))


@dataclass(slots=True)
class Reading:
    """One load: what is wrong so far, and how many bytes were read."""

    root: Path
    faults: list[Fault] = field(default_factory=list)
    bytes_read: int = 0

    def fault(self, path: PurePosixPath, says: str, line: int | None = None, column: int | None = None) -> None:
        self.faults.append(Fault(self.root / path, line, column, says))

    def text(self, path: PurePosixPath, most_bytes: int) -> str | None:
        """None, and a fault, for what is no text of that size."""
        try:
            handle = os.open(self.root / path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would never end
            with open(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    self.fault(path, "is no regular file; take it out")
                    return None
                data = file.read(most_bytes + 1)
        except OSError as error:
            self.fault(path, f"cannot be read: {error.strerror}")
            return None
        self.bytes_read += len(data)
        if len(data) > most_bytes:
            self.fault(path, f"has more than {most_bytes:,} bytes, which is the most; make it shorter")
            return None
        if self.bytes_read > MOST_BYTES:
            self.fault(path, f"with this file the folder has more than {MOST_BYTES:,} bytes; take some out")
            return None
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            self.fault(path, f"is not UTF-8 at byte {error.start}; save it as UTF-8")
            return None

    def document(self, path: PurePosixPath) -> Document | None:
        text = self.text(path, DOCUMENT_BYTES)
        if text is None:
            return None
        try:
            document = parse_plain(self.root / path, text)
        except YamlError as error:
            mark = error.__cause__.problem_mark if isinstance(error.__cause__, yaml.MarkedYAMLError) else None
            for line in str(error).splitlines():
                self._yaml_fault(path, line, mark.column + 1 if mark else None)
            return None
        if not isinstance(document.value, dict):
            self.fault(path, "says nothing; it has keys with values, messages at least", 1, 1)
            return None
        return document

    def _yaml_fault(self, path: PurePosixPath, told: str, column: int | None) -> None:
        """A fault from a line that names the file and the place already."""
        rest = told.removeprefix(f"{self.root / path}")
        found = re.match(r":(\d+)(?::(\d+))?: ", rest)
        if found is None:
            self.fault(path, rest.removeprefix(": "))
        else:
            self.fault(path, rest[found.end() :], int(found[1]), int(found[2]) if found[2] else column)

    def said(self, path: PurePosixPath, document: Document, kind: type[Said], prompt_id: str = "") -> Said | None:
        try:
            return kind.model_validate(document.value, context={"id": prompt_id} if prompt_id else None)
        except ValidationError as error:
            for problem in problems_in(kind, error):
                where = ".".join(map(str, problem.loc))
                says = ": ".join(filter(None, (where, problem.holds, problem.remedy)))
                self.fault(path, says, *document.position(problem.loc))
            return None

    def files(self) -> Iterator[PurePosixPath]:
        """Every file that is not hidden, in order, relative to the root. A link that leads out of it is a fault."""
        home = self.root.resolve(strict=True)
        waiting, seen = [PurePosixPath()], 0
        while waiting:
            folder = waiting.pop()
            for name in sorted(os.listdir(self.root / folder)):
                seen += 1
                if seen > MOST_ENTRIES:
                    self.fault(folder, f"the folder has more than {MOST_ENTRIES:,} files; is it the right one?")
                    return
                path = folder / name
                if name.startswith("."):
                    continue
                try:
                    target = (self.root / path).resolve(strict=True)
                except (OSError, RuntimeError):
                    self.fault(path, "is a link that leads nowhere; take it out")
                    continue
                if not target.is_relative_to(home):
                    self.fault(path, "is a link that leads out of the folder; copy the file in")
                elif not target.is_dir():
                    yield path
                elif len(path.parts) >= MOST_LEVELS:
                    self.fault(path, f"is more than {MOST_LEVELS - 1} folders deep; move it up")
                else:
                    waiting.append(path)
