"""Why the library does not do what it was asked. One class per meaning; the message says what to do about it."""

from collections.abc import Sequence

from prompts.check import Finding
from router.gate import Gate, Row


class LibraryError(Exception):
    """Whatever the library refuses, but what is not there: that is `prompts.library.PromptNotFound`."""


class TemplateRefused(LibraryError):
    """`prompts.check` finds something in it: it is not kept."""

    def __init__(self, prompt: str, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(f"{prompt}: {_told(finding)}" for finding in findings))
        self.findings = tuple(findings)


class NumberTaken(LibraryError):
    """The same name and version has another content elsewhere."""


class LabelRefused(LibraryError):
    """No label can have this name, or it cannot go there."""


class LabelMoved(LibraryError):
    """Somebody else was faster. `current`: where it is now; None where there is no such label."""

    def __init__(self, prompt: str, label: str, expected: int | None, current: int | None) -> None:
        where = f"at version {current}" if current is not None else "not there"
        thought = f"version {expected}" if expected is not None else "a label that is not there"
        super().__init__(f"{prompt}: the label {label} is {where}, not {thought}; look again, and move it from there")
        self.current = current


class NotPermitted(LibraryError):
    """The policy of the label names roles, and this is none of theirs."""


class OverrideRefused(LibraryError):
    """An override needs a role that the policy names, a reason and a time at which it ends."""


class GateShut(LibraryError):
    """The version has not shown that it may serve. `gate` has the rows."""

    def __init__(self, version: str, label: str, gate: Gate) -> None:
        told = "\n".join(f"  {row_told(row)}" for row in gate.failing or gate.rows)
        remedy = "run its suite on these tiers, or leave tiers out (excluded)"
        super().__init__(f"{version} may not become {label}; {remedy}:\n{told or '  no tier is left'}")
        self.gate = gate


class CanaryRefused(LibraryError):
    """There is nothing to try, or it was tried."""


class ReceiptRefused(LibraryError):
    """It is of nothing that the library has, or does not count all of it."""


class LimitReached(LibraryError):
    """The library keeps no more of these."""


class FolderRefused(LibraryError):
    """The files are not taken, none of them; the message has a line for every mistake, by file and line."""


def row_told(row: Row) -> str:
    bar = f" (bar {row.bar})" if row.bar else ""
    return f"{row.tier}, {row.metric}{bar}: {row.why}"


def _told(finding: Finding) -> str:
    where = ".".join(map(str, (finding.place.source, *finding.place.loc)))
    return f"{where}: {finding}"
