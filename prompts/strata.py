"""The cases of a suite apart by the values of the variables in `routing.stratify_by`: what passes for all may fail for
one language. They are told, not gated; what needs a bar of its own is a tag. Pure.

Cases are not split for an optimiser by strata: each stays where the hash of its inputs has it, whatever others come.
"""

from collections.abc import Mapping

import orjson

from prompts.suite import Case, Suite
from prompts.template import Template

MOST_VALUES = 12  # of one variable; of more the rarest are told together
OTHERS = "other values"
SHOWN_CHARACTERS = 24  # of a value


def strata(template: Template, suite: Suite) -> dict[str, frozenset[str]]:
    """Ids of cases by `variable=value`, the most cases first; empty where the template names no variable."""
    found: dict[str, frozenset[str]] = {}
    for name in template.routing.stratify_by:
        by_value: dict[str, set[str]] = {}
        for case in suite.cases:
            by_value.setdefault(_value(template, name, case), set()).add(case.id)
        ordered = sorted(by_value.items(), key=lambda one: (-len(one[1]), one[0]))
        few = MOST_VALUES if len(ordered) <= MOST_VALUES else MOST_VALUES - 1
        found |= {f"{name}={value}": frozenset(cases) for value, cases in ordered[:few]}
        if rest := [cases for _, cases in ordered[few:]]:
            found[f"{name}: {OTHERS}"] = frozenset().union(*rest)
    return found


def _value(template: Template, name: str, case: Case) -> str:
    """As a template would have it: its default where the case has none."""
    schema: Mapping[str, object] = template.inputs.get("properties", {}).get(name, {})
    value = case.vars.get(name, schema.get("default"))
    said = value if isinstance(value, str) else "none" if value is None else orjson.dumps(value).decode()
    return said if len(said) <= SHOWN_CHARACTERS else f"{said[:SHOWN_CHARACTERS]}..."
