"""How the answers to a template's prompts are read: the grader of its prompts, by the template's key. Reads files."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from prompts.grade import grader
from router.outcomes import DATA

BUILTIN_GRADERS = DATA / "graders.csv"
COLUMNS = ("template", "grade")


def graders_of(graded: Iterable[tuple[str, str]]) -> dict[str, str]:
    """*graded*: template and grader of each prompt. A template whose prompts have several is left out."""
    found: dict[str, set[str]] = {}
    for template, grade in graded:
        found.setdefault(template, set()).add(grade)
    return {template: min(grades) for template, grades in found.items() if len(grades) == 1}


def write_graders(path: Path, graders: Mapping[str, str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(graders.items()))


def read_graders(path: Path = BUILTIN_GRADERS) -> dict[str, str]:
    """Raises OSError, or ValueError for a grader that this code does not know."""
    with path.open(newline="", encoding="utf-8") as source:
        graders = {row["template"]: row["grade"] for row in csv.DictReader(source)}
    for grade in graders.values():
        grader(grade)
    return graders
