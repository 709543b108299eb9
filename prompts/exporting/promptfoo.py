"""A promptfoo configuration that asks a running gateway: the messages, the cases and what must be true of answers.

Its templates are nunjucks, which reads ours but for what is told.
"""

from typing import Any

import orjson

from prompts.assertions.kind import Assertion
from prompts.exporting.plain import BRACE, VARIABLE, Exported, logic, messages_of, opened
from prompts.suite import Case, Suite
from prompts.template import Template
from prompts.writing import yaml_of

GATEWAY = "http://127.0.0.1:8080/v1"
KEY_VARIABLE = "POINTSMAN_KEY"
OURS_ONLY = frozenset(("one-of", "number", "final-answer", "calls-tool"))
SCHEMA, THEIR_SCHEMA = "json-schema", "is-json"


def write(template: Template, suite: Suite | None, tier: str | None) -> Exported:
    dropped: list[str] = []
    messages = []
    for role, text in messages_of(template, tier, dropped):
        dropped += [f"{tag!r}: nunjucks may read it otherwise; look at it" for tag in logic(text)]
        content = BRACE.sub("{{ '{' }}", VARIABLE.sub(r"{{ \1 }}", opened(text)))  # no quotes: it stands in JSON
        messages.append({"role": role, "content": content})
    parameters = dict(template.parameters_of(template.variant(tier)))
    if template.response_format is not None:
        parameters["response_format"] = dict(template.response_format)
    config = {"apiBaseUrl": GATEWAY, "apiKeyEnvar": KEY_VARIABLE, "passthrough": parameters}
    document: dict[str, Any] = {
        "description": template.description or template.id,
        "prompts": [{"label": template.id, "raw": orjson.dumps(messages, option=orjson.OPT_INDENT_2).decode()}],
        "providers": [{"id": f"openai:chat:{template.model}", "config": config}],
        "tests": [_test(case, dropped) for case in suite.cases] if suite is not None else [],
    }
    if template.variants:
        dropped.append(f"variants {', '.join(template.variants)}: one configuration is one text; --tier chooses it")
    return Exported(yaml_of(document), tuple(dict.fromkeys(dropped)))


def _test(case: Case, dropped: list[str]) -> dict[str, Any]:
    if case.messages:
        dropped.append(f"case {case.id}: its client messages have no place there")
    if case.repeat > 1:
        dropped.append(f"case {case.id}: repeat and min_pass; promptfoo repeats all or nothing (--repeat)")
    asserted = [made for one in case.assertions if (made := _assertion(one, case, dropped))]
    said = {
        "description": case.description or case.id,
        "vars": dict(case.vars),
        "assert": asserted,
        "threshold": case.threshold,
        "metadata": {"tags": list(case.tags)} if case.tags else None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _assertion(one: Assertion, case: Case, dropped: list[str]) -> dict[str, Any] | None:
    if one.kind in OURS_ONLY:
        dropped.append(f"case {case.id}: {one.name}: promptfoo has no such assertion")
        return None
    name = one.name.replace(SCHEMA, THEIR_SCHEMA)
    said = {"type": name, "value": one.value, "threshold": one.threshold, "metric": one.metric}
    said["weight"] = None if one.weight == 1 else one.weight
    return {key: value for key, value in said.items() if value is not None}
