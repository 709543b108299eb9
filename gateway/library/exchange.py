"""The library as lines of JSON, for another database: versions, suites and receipts go in again; labels do not move.

A label is history of one house: its lines are exported to be read, and an import leaves them to whoever moves labels,
through the gate.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.library.documents import move_document
from gateway.library.errors import LibraryError
from gateway.library.store import LibraryStore
from prompts.library import PromptNotFound
from prompts.receipt import Receipt
from prompts.suite_document import document_of, suite_of
from prompts.template_document import read_template

MOST_LINES = 100_000
MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Imported:
    """How many of each kind were there, and the lines that were left out, each with why."""

    counts: Mapping[str, int]
    left_out: tuple[str, ...]


def exported(store: LibraryStore) -> Iterator[bytes]:
    """A line for each version, suite, receipt and move of a label; receipts after what they are of."""
    for prompt in sorted(store.library().versions):
        for saved in store.saved(prompt):
            yield _line(
                {
                    "kind": "version",
                    "number": saved.version.number,
                    "template": orjson.loads(saved.version.template.canonical),
                    "parent": saved.parent,
                    "author": saved.author,
                    "message": saved.message,
                }
            )
        if (suite := store.suite(prompt)) is not None:
            yield _line({"kind": "suite", "prompt": prompt, "suite": document_of(suite)})
        for receipt in store.receipts(prompt):
            yield _line({"kind": "receipt", "prompt": prompt, "receipt": receipt.document()})
        for move in reversed(store.history(prompt)):
            yield _line({"kind": "move", **move_document(move)})


def take(store: LibraryStore, text: bytes, author: str) -> Imported:
    """Each line by itself: what is right is kept, what is not is told by its number. A content that is there already
    changes nothing, and one whose number is taken gets no other.
    """
    counts: Counter[str] = Counter()
    left_out: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if number > MOST_LINES:
            left_out.append(f"line {number}: {MOST_LINES:,} lines are the most; send the rest by themselves")
            break
        if not line.strip():
            continue
        try:
            counts[_take_line(store, line, author)] += 1
        except (LibraryError, PromptNotFound, ValueError, KeyError, TypeError, AttributeError) as error:
            said = str(error) if isinstance(error, LibraryError | PromptNotFound | ValueError) else repr(error)
            left_out.append(f"line {number}: {said}")
    told = left_out[:MOST_TOLD]
    if len(left_out) > MOST_TOLD:
        told.append(f"and {len(left_out) - MOST_TOLD} more")
    return Imported(dict(counts), tuple(told))


def _take_line(store: LibraryStore, line: bytes, author: str) -> str:
    said = orjson.loads(line)
    match kind := said["kind"]:
        case "version":
            template = read_template(said["template"])
            parent, wanted = said.get("parent"), int(said["number"])
            parents = store.numbers(template.id)
            store.save(
                template,
                origin="import",
                author=author,
                message=str(said.get("message") or ""),
                parent=parent if parent in parents else None,
                number=wanted,
            )
        case "suite":
            store.add_suite(said["prompt"], suite_of(said["suite"]), author=author)
        case "receipt":
            store.add_receipt(said["prompt"], Receipt.read(said["receipt"]), author=author)
        case "move":
            raise ValueError(f"labels are not imported: move {said['label']} of {said['prompt']} through the gate")
        case _:
            raise ValueError(f"{kind!r} is no kind of line; there are version, suite, receipt and move")
    return str(kind)


def _line(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
