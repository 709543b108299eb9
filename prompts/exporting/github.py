"""GitHub Models' `.prompt.yml`. It knows variables, `{{name}}`, and no way to write `{{` itself."""

from typing import Any

import orjson

from prompts.assertions.kind import Assertion
from prompts.exporting.plain import BRACE, VARIABLE, Exported, logic, messages_of, opened
from prompts.importing.github import EXPECTED, PARAMETERS
from prompts.suite import Suite
from prompts.template import AUTO, Template
from prompts.writing import yaml_of

THEIRS = {ours: theirs for theirs, ours in PARAMETERS.items()}


def write(template: Template, suite: Suite | None, tier: str | None) -> Exported:
    dropped: list[str] = []
    messages = []
    for role, text in messages_of(template, tier, dropped):
        dropped += [f"{tag!r}: GitHub has variables only; it stands as text" for tag in logic(text)]
        if BRACE.search(text):
            dropped.append("'{{' as a text: GitHub may take what follows for a variable")
        content = BRACE.sub("{", VARIABLE.sub(r"{{\1}}", opened(text)))
        messages.append({"role": "system" if role == "developer" else role, "content": content})
        dropped += ["role developer: is system there"] if role == "developer" else []
    document: dict[str, Any] = {
        "name": template.id,
        "description": template.description or None,
        "model": None if template.model == AUTO else template.model,
        "modelParameters": _parameters(template, tier, dropped) or None,
        **_form(template),
        "messages": messages,
        **(_tests(suite, dropped) if suite is not None else {}),
    }
    _told(template, dropped)
    text = yaml_of({key: value for key, value in document.items() if value is not None})
    return Exported(text, tuple(dict.fromkeys(dropped)))


def _parameters(template: Template, tier: str | None, dropped: list[str]) -> dict[str, Any]:
    kept = {}
    for name, value in template.parameters_of(template.variant(tier)).items():
        if name in THEIRS:
            kept[THEIRS[name]] = value
        else:
            dropped.append(f"modelParameters.{name}: has no name there")
    return kept


def _form(template: Template) -> dict[str, Any]:
    said = template.response_format
    if said is None:
        return {}
    form: dict[str, Any] = {"responseFormat": said["type"]}
    if "json_schema" in said:
        form["jsonSchema"] = orjson.dumps(said["json_schema"], option=orjson.OPT_INDENT_2).decode()
    return form


def _told(template: Template, dropped: list[str]) -> None:
    for name, schema in template.inputs.get("properties", {}).items():
        if set(schema) - {"type", "x-untrusted"} or schema.get("type") != "string":
            dropped.append(f"inputs.{name}: types, limits and defaults have no place there")
    if template.variants:
        dropped.append(f"variants {', '.join(template.variants)}: one file is one text; --tier chooses it")
    for name, there in (("routing", template.routing.bar is not None), ("locked", bool(template.locked))):
        if there:
            dropped.append(f"{name}: has no place there")


def _tests(suite: Suite, dropped: list[str]) -> dict[str, Any]:
    """GitHub compares every row in the same way: with its own `expected`. Cases that assert one text are carried."""
    rows: dict[str, list[dict[str, Any]]] = {"equals": [], "contains": []}
    for case in suite.cases:
        kind = _kind(case.assertions)
        if kind is None or case.messages or case.repeat > 1 or EXPECTED in case.vars:
            dropped.append(f"case {case.id}: is not one comparison with one text; GitHub has no other")
        else:
            rows[kind].append({**case.vars, EXPECTED: case.assertions[0].value})
    best = max(rows, key=lambda kind: len(rows[kind]))
    for kind, left in rows.items():
        if kind != best and left:
            dropped.append(f"{len(left)} cases with {kind}: GitHub has one way to compare for all; {best} is it")
    if not rows[best]:
        return {}
    evaluators = [{"name": best, "string": {best: f"{{{{{EXPECTED}}}}}"}}]
    return {"testData": rows[best], "evaluators": evaluators}


def _kind(assertions: tuple[Assertion, ...]) -> str | None:
    if len(assertions) != 1 or assertions[0].negated or not isinstance(assertions[0].value, str):
        return None
    return {"equals": "equals", "icontains": "contains"}.get(assertions[0].kind)
