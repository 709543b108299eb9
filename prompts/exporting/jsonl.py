"""A line for each case: the messages as a model is sent them, and what must be true of the answer. For data sets."""

from typing import Any

import orjson

from prompts.exporting.plain import Exported
from prompts.render import render
from prompts.suite import Case, Suite
from prompts.template import Template


def write(template: Template, suite: Suite | None, tier: str | None) -> Exported:
    """Raises what rendering does."""
    if suite is None:
        return Exported("", ("the prompt has no tests: a line is a test's",))
    lines = [orjson.dumps(_line(template, case, tier)).decode() for case in suite.cases]
    return Exported("".join(f"{line}\n" for line in lines), ())


def _line(template: Template, case: Case, tier: str | None) -> dict[str, Any]:
    said = render(template, tier, case.vars, case.messages)
    body = said.over({})
    return {
        "prompt": template.id,
        "case": case.id,
        "variant": said.variant,
        "tags": list(case.tags),
        "split": case.split,
        "variables": dict(case.vars),
        "messages": body.pop("messages"),
        "parameters": body,
        "assert": [
            {"type": one.name, "value": one.value, "threshold": one.threshold, "tolerance": one.tolerance}
            for one in case.assertions
        ],
    }
