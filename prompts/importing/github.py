"""GitHub Models' `.prompt.yml`: messages with `{{name}}`, modelParameters, testData and evaluators.

Its evaluators of strings fold case, but for `equals` (gh-models, cmd/eval/eval.go): so `contains` becomes `icontains`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from prompts.importing.made import Imported, ImportRefused, Making, content_text, mapping, rest
from prompts.importing.suites import assertion, escaped, filled, suite, variables_of
from prompts.importing.text import template_text
from prompts.yamlfile import YamlError, parse_yaml

KNOWN = frozenset(
    [
        "name",
        "description",
        "model",
        "modelParameters",
        "responseFormat",
        "jsonSchema",
        "messages",
        "testData",
        "evaluators",
    ]
)
PARAMETERS = {
    "maxTokens": "max_tokens",
    "maxCompletionTokens": "max_completion_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "stop": "stop",
    "seed": "seed",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "reasoningEffort": "reasoning_effort",
}
EXPECTED = "expected"  # of a row: what evaluators compare with


def read(text: str, name: str) -> Sequence[Imported]:
    try:
        said = mapping(parse_yaml(Path(name), text, None).value, "the file")
    except YamlError as error:
        raise ImportRefused(str(error).removeprefix(f"{name}:")) from error
    made = Making(str(said.get("name") or name.removesuffix(".prompt")))
    made.description = str(said.get("description") or "")
    messages = said.get("messages")
    if not isinstance(messages, list):
        raise ImportRefused("has no list of messages")
    for place, message in enumerate(messages):
        if isinstance(message, Mapping):
            content = content_text(made, message.get("content"), f"message {place}")
            made.say(message.get("role"), template_text(content, made.names))
        else:
            made.drop(f"message {place}", "is no message; it is left out")
    _parameters(made, said)
    _tests(made, said)
    if said.get("model"):
        made.drop(f"model {said['model']}", "the router decides here; write model: into the file to name one")
    rest(made, said, KNOWN)
    return [made.done()]


def _parameters(made: Making, said: Mapping[str, Any]) -> None:
    made.take_parameters(said.get("modelParameters"), PARAMETERS, "modelParameters")
    form = said.get("responseFormat")
    if form in ("text", "json_object"):
        made.response_format = {"type": form}
    elif form == "json_schema":
        made.response_format = _schema(made, said.get("jsonSchema"))
    elif form is not None:
        made.drop("responseFormat", "must be text, json_object or json_schema")


def _schema(made: Making, said: Any) -> dict[str, Any] | None:
    try:
        schema = orjson.loads(said) if isinstance(said, str) else said
    except orjson.JSONDecodeError:
        schema = None
    if not isinstance(schema, Mapping) or "schema" not in schema:
        made.drop("jsonSchema", "is no JSON with name and schema")
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", **schema}}


def _tests(made: Making, said: Mapping[str, Any]) -> None:
    rows, evaluators = said.get("testData") or [], said.get("evaluators") or []
    if not isinstance(rows, list) or not isinstance(evaluators, list):
        made.drop("testData, evaluators", "are no lists; they are left out")
        return
    known = [one for one in evaluators if _is_known(made, one)]
    cases = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            made.drop(f"testData {number}", "is no object; it is left out")
            continue
        variables = {str(name): value for name, value in row.items() if name != EXPECTED}
        asserted = [made_of for one in known if (made_of := _assertion(made, one, row, f"testData {number}"))]
        cases.append({"vars": variables_of(made, variables, f"testData {number}"), "assert": asserted})
    suite(made, cases)


def _is_known(made: Making, said: Any) -> bool:
    if isinstance(said, Mapping) and isinstance(said.get("string"), Mapping):
        return True
    name = said.get("name", "unnamed") if isinstance(said, Mapping) else "unnamed"
    made.drop(f"evaluator {name!r}", "asks a model in a way of its own; write llm-rubric or similar instead")
    return False


def _assertion(made: Making, said: Mapping[str, Any], row: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    for how, value in said["string"].items():
        text = filled(value, row)
        match how, text:
            case "equals", str():
                kind = {"type": "equals", "value": text}
            case "contains", str():
                kind = {"type": "icontains", "value": text}
            case "startsWith", str():
                kind = {"type": "regex", "value": f"(?i)^{escaped(text)}"}
            case "endsWith", str():
                kind = {"type": "regex", "value": f"(?i){escaped(text)}$"}
            case _:
                made.drop(f"{where}: string.{how}", "is no comparison that is known here")
                continue
        return assertion(made, kind, where)
    return None
