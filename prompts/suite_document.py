"""A suite as one JSON object with the words of `tests.yaml`, to be kept or sent. Reading it asks all that reading the
files does, and what was written by `document_of` has the same digest again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from prompts.assertions.kind import Assertion
from prompts.suite import Case, Suite
from prompts.suite_file import SuiteError, parse_suite

TESTS = "tests"
NOWHERE = Path("suite")  # whose name mistakes are told under


def document_of(suite: Suite) -> dict[str, Any]:
    bars = suite.bars
    default = {} if bars.default is None else {"default": bars.default}
    gate = {**bars.tiers, **default, "tags": dict(bars.tags), "metrics": dict(bars.metrics)}
    return {"gate": gate, TESTS: list(map(_case, suite.cases))}


def suite_of(document: Mapping[str, Any]) -> Suite:
    """Raises SuiteError with a line for every mistake; a case is told by its line, from 1."""
    cases = document.get(TESTS)
    if not isinstance(cases, list):
        raise SuiteError(f"{NOWHERE}: {TESTS} must be a list of cases")
    rest = {name: value for name, value in document.items() if name != TESTS}
    try:
        return parse_suite(NOWHERE, _text(rest), "\n".join(map(_text, cases)))
    except orjson.JSONEncodeError as error:
        raise SuiteError(f"{NOWHERE}: is not JSON: {error}") from error


def _case(case: Case) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": case.id,
        "vars": dict(case.vars),
        "messages": list(case.messages),
        "assert": list(map(_assertion, case.assertions)),
        "tags": list(case.tags),
        "repeat": case.repeat,
        "min_pass": case.min_pass,
        "description": case.description,
    }
    return said if case.threshold is None else {**said, "threshold": case.threshold}


def _assertion(assertion: Assertion) -> dict[str, Any]:
    said = {"type": assertion.name, "weight": assertion.weight}
    others = {name: getattr(assertion, name) for name in ("value", "threshold", "tolerance", "metric")}
    return {**said, **{name: value for name, value in others.items() if value is not None}}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
