"""Test rows of other tools as cases of a suite: what can be asserted here is, the rest is told."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prompts.assertions import kind_named, problem_with
from prompts.assertions.kind import Assertion
from prompts.canonical import digest
from prompts.importing.made import Making
from prompts.importing.text import VARIABLE
from prompts.suite import MOST_CASES

KEYS = ("value", "threshold", "weight", "metric")
METRIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
META = re.compile(r"[\\.+*?()|\[\]{}^$#&~-]")


def filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """*value* with the row's own variables in it, as those tools fill them in before they compare."""
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: _shown(variables.get(found[1].strip(), found[0])), value)
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    return value


def escaped(text: str) -> str:
    """*text* as a pattern that matches it alone."""
    return META.sub(lambda found: f"\\{found[0]}", text)


def assertion(made: Making, said: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """One assertion in promptfoo's words; None, and told, where it cannot be evaluated here."""
    name = said.get("type")
    kept = {"type": name, **{key: said[key] for key in KEYS if said.get(key) is not None}}
    if isinstance(kept.get("metric"), str) and not METRIC.fullmatch(kept["metric"]):
        made.drop(f"{where}: metric {kept.pop('metric')!r}", "is no name here: letters, digits, . _ and -")
    try:
        kind, negated = kind_named(str(name))
        one = Assertion(kind, negated, kept.get("value"), kept.get("threshold"), None, kept.get("weight", 1.0))
        problem = problem_with(one)
    except (ValueError, TypeError) as error:
        problem = str(error)
    if problem is not None:
        made.drop(f"{where}: {name}", problem)
        return None
    for key in said:
        if key not in (*KEYS, "type"):
            made.drop(f"{where}: {name}.{key}", "is not known here; the assertion is carried without it")
    return kept


def suite(made: Making, cases: Sequence[dict[str, Any]]) -> None:
    """Give the prompt *cases*; those that assert nothing, or ask the same again, are told and left out."""
    kept: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, case in enumerate(cases[:MOST_CASES]):
        inputs = digest(case["vars"])
        if not case["assert"]:
            made.drop(
                f"test {number}", "asserts nothing that is known here; every answer would pass, so it is left out"
            )
        elif inputs in seen:
            made.drop(f"test {number}", "has the variables of one before it; it is left out")
        else:
            seen.add(inputs)
            kept.append({key: value for key, value in case.items() if value not in (None, "", [])})
    if len(cases) > MOST_CASES:
        made.drop(f"{len(cases) - MOST_CASES} tests", f"{MOST_CASES:,} are the most")
    if kept:
        made.suite = {"tests": kept}


def variables_of(made: Making, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row's variables by our names: texts, as those tools write anything into a prompt as a text."""
    kept = {}
    for name, value in row.items():
        if name in made.names.ours:
            kept[made.names.of(name)] = _shown(value)
        else:
            made.drop(f"{where}: {name}", "no message reads it")
    return kept


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
