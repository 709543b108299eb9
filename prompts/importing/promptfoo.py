"""A promptfoo configuration: each of its `prompts` becomes a prompt, with its `tests` as the suite.

Nothing outside the file is read: `file://` is told. Where a prompt does more than write variables (`{% if %}`,
filters), that is told, too, and stands as text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from prompts.importing.made import Imported, ImportRefused, Making, content_text, mapping, rest
from prompts.importing.suites import assertion, filled, suite, variables_of
from prompts.importing.text import template_text
from prompts.yamlfile import YamlError, parse_yaml

KNOWN = frozenset(("description", "prompts", "tests", "defaultTest", "$schema"))
OF_TEST = frozenset(("vars", "assert", "description", "threshold"))
ELSEWHERE = ("file://", "exec:", "langfuse://", "portkey://", "helicone://", "http://", "https://")


def read(text: str, name: str) -> Sequence[Imported]:
    try:
        said = mapping(parse_yaml(Path(name), text, None).value, "the file")
    except YamlError as error:
        raise ImportRefused(str(error).removeprefix(f"{name}:")) from error
    prompts = said.get("prompts")
    prompts = [prompts] if isinstance(prompts, str | Mapping) else prompts
    if not isinstance(prompts, list) or not prompts:
        raise ImportRefused("has no prompts")
    made = []
    for place, prompt in enumerate(prompts):
        usual = name if len(prompts) == 1 else f"{name}-{place + 1}"
        one = _one(said, prompt, usual)
        if one is not None:
            made.append(one)
    if not made:
        raise ImportRefused("has prompts in other files only; name those files, or write the texts into it")
    return made


def _one(said: Mapping[str, Any], prompt: Any, name: str) -> Imported | None:
    label, text = name, prompt
    if isinstance(prompt, Mapping):
        label = str(prompt.get("label") or prompt.get("id") or name)
        text = prompt.get("raw") or prompt.get("prompt") or prompt.get("id")
    if not isinstance(text, str) or text.startswith(ELSEWHERE):
        return None
    made = Making(label[:64])
    made.description = str(said.get("description") or "")
    for role, content in _messages(made, text):
        made.say(role, template_text(content, made.names, has_logic=True))
    _tests(made, said)
    rest(made, said, KNOWN, "is promptfoo's own; models are those that the gateway serves")
    return made.done()


def _messages(made: Making, text: str) -> list[tuple[object, str]]:
    """Of a text that is a JSON list of messages; any other text is what a user says."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [("user", text)]
    if not isinstance(said, list) or not all(isinstance(one, Mapping) and "role" in one for one in said):
        return [("user", text)]
    return [(one["role"], content_text(made, one.get("content"), f"message {at}")) for at, one in enumerate(said)]


def _tests(made: Making, said: Mapping[str, Any]) -> None:
    tests, usual = said.get("tests") or [], said.get("defaultTest") or {}
    if not isinstance(tests, list) or not isinstance(usual, Mapping):
        made.drop("tests", "stand in another file; write them here, or take them over as tests.yaml")
        return
    rest(made, usual, OF_TEST, "of defaultTest is not known here")
    cases = []
    for number, test in enumerate(tests):
        where = f"test {number}"
        if not isinstance(test, Mapping):
            made.drop(where, "stands in another file; write it here")
            continue
        rest(made, test, OF_TEST, f"of {where} is not known here")
        variables = {**_mapping(usual.get("vars")), **_mapping(test.get("vars"))}
        if any(isinstance(value, list) for value in variables.values()):
            made.drop(where, "has lists of values, which stand for many tests; write each of them")
            continue
        asserted = []
        for one in [*_list(usual.get("assert")), *_list(test.get("assert"))]:
            if isinstance(one, Mapping):
                kept = assertion(made, {**one, "value": filled(one.get("value"), variables)}, where)
                asserted += [kept] if kept else []
            else:
                made.drop(where, "has an assertion that is no object")
        cases.append(
            {
                "description": str(test.get("description") or "")[:1000],
                "vars": variables_of(made, variables, where),
                "assert": asserted,
                "threshold": test.get("threshold", usual.get("threshold")),
            }
        )
    suite(made, cases)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
