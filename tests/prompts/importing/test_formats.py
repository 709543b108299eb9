"""Each format by a file as its tool writes it: what is carried, and what is told."""

import json

import pytest

from prompts.answer import Answer
from prompts.assertions import evaluate
from prompts.assertions.kind import Asks, Given
from prompts.importing import FORMATS, Imported
from prompts.template import Placeholder
from tests.prompts.importing.landed import landed, said


def made_by(name: str, source: object) -> Imported:
    text = source if isinstance(source, str) else json.dumps(source)
    [made] = FORMATS[name](text, "file")
    return made


def tells(made: Imported, *words: str) -> bool:
    return any(all(word in told for word in words) for told in made.dropped)


OPENAI = {
    "id": "pmpt_68a1f0",
    "object": "prompt",
    "version": "3",
    "model": "gpt-5.1",
    "instructions": "You help customers of {{shop}}.",
    "messages": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "{{question}}"}, {"type": "input_image"}]},
    ],
    "variables": {"shop": "Acme", "unused": "x"},
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}, {"type": "web_search"}],
    "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}},
    "max_output_tokens": 50,
    "reasoning": {"effort": "low", "summary": "auto"},
    "store": True,
}


def test_an_openai_prompt_object_keeps_its_id_so_that_clients_need_no_change() -> None:
    made = made_by("openai", OPENAI)
    template, suite = landed(made)
    assert (template.id, suite) == ("pmpt_68a1f0", None)
    assert said(template, {"question": "When?"}) == [
        ("system", "You help customers of Acme."),
        ("developer", "Be brief."),
        ("user", "When?"),
    ]
    assert template.parameters["tools"][0]["function"] == {"name": "look", "parameters": {"type": "object"}}
    assert (template.parameters["max_tokens"], template.parameters["reasoning_effort"]) == (50, "low")
    assert template.response_format is not None
    assert template.response_format["json_schema"]["strict"] is True
    for word in ("version 3", "gpt-5.1", "unused", "web_search", "input_image", "summary", "store"):
        assert tells(made, word), (word, made.dropped)


def test_of_langfuse_versions_the_production_one_is_taken_with_its_placeholder() -> None:
    chat = [{"role": "system", "content": "Reply to {{name}}."}, {"type": "placeholder", "name": "history"}]
    rows = [
        {"name": "reply", "version": 1, "type": "chat", "prompt": chat, "labels": ["production"]}
        | {"config": {"temperature": 0.5, "model": "gpt-4o", "json": 1}, "tags": ["x"]},
        {"name": "reply", "version": 2, "type": "text", "prompt": "Hello", "labels": ["latest"]},
    ]
    made = made_by("langfuse", {"data": rows})
    template, _ = landed(made)
    assert template.parameters == {"temperature": 0.5}
    assert isinstance(template.messages[1], Placeholder)
    for words in (("versions 2",), ("config.model",), ("config.json",), ("labels production",), ("tags x",)):
        assert tells(made, *words), (words, made.dropped)


GITHUB = """\
name: Summarise
description: Sum it up
model: openai/gpt-4o
modelParameters: {maxTokens: 40, temperature: 0, bogus: 1}
messages:
  - {role: system, content: "Answer yes or no."}
  - {role: user, content: "Is {{input}} a fruit?"}
testData:
  - {input: apple, expected: "Yes"}
  - {input: stone, expected: "No"}
  - {input: stone, expected: "No"}
  - {input: 7, expected: "No", note: odd}
evaluators:
  - {name: says it, string: {startsWith: "{{expected}}"}}
  - {name: alike, uses: github/similarity}
"""


@pytest.mark.anyio
async def test_github_rows_and_evaluators_become_cases_that_compare_as_github_does() -> None:
    made = made_by("github", GITHUB)
    template, suite = landed(made)
    assert suite is not None
    assert [dict(case.vars) for case in suite.cases] == [{"input": "apple"}, {"input": "stone"}, {"input": "7"}]
    for answer, passes in (("yes, it is", True), ("No", False), ("oh yes", False)):
        verdict = await evaluate(suite.cases[0].assertions[0], Given(Answer(answer)), Asks())
        assert verdict.passed is passes, answer
    assert dict(template.parameters) == {"max_tokens": 40, "temperature": 0}
    for words in (("openai/gpt-4o",), ("bogus",), ("alike",), ("test 2", "variables"), ("note",)):
        assert tells(made, *words), (words, made.dropped)


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["a.b", "(x)", "100%", "^$", "a b", "\\d", "{3}", "[q]", "#1"])
@pytest.mark.parametrize("how", ["startsWith", "endsWith"])
async def test_a_text_of_an_evaluator_is_no_pattern(text: str, how: str) -> None:
    source = {
        "messages": [{"role": "user", "content": "{{input}}"}],
        "testData": [{"input": "x"}],
        "evaluators": [{"name": "n", "string": {how: text}}],
    }
    _, suite = landed(made_by("github", source))
    assert suite is not None
    for answer, passes in ((text.upper(), True), ("nothing", False)):
        assert (await evaluate(suite.cases[0].assertions[0], Given(Answer(answer)), Asks())).passed is passes


PROMPTFOO = """\
description: Queues
prompts:
  - "Queue of {{ticket}}?{% if polite %} Please.{% endif %}"
  - file://other.txt
  - label: chat
    raw: '[{"role": "system", "content": "Sort."}, {"role": "user", "content": "{{ticket}}"}]'
providers: [openai:gpt-4o]
defaultTest:
  assert: [{type: latency, threshold: 3000}]
tests:
  - vars: {ticket: My parcel}
    assert: [{type: icontains, value: delivery}, {type: javascript, value: "output.length < 9"}]
    options: {x: 1}
  - {vars: {ticket: [a, b]}, assert: [{type: equals, value: x}]}
  - {vars: {ticket: "{{x}}"}, assert: [{type: equals, value: "{{ticket}}", metric: "has a space"}]}
"""


def test_each_prompt_of_promptfoo_is_carried_with_the_tests_and_its_logic_told() -> None:
    plain, chat = FORMATS["promptfoo"](PROMPTFOO, "queues")
    template, suite = landed(plain)
    assert said(template, {"ticket": "x"}) == [("user", "Queue of x?{% if polite %} Please.{% endif %}")]
    assert suite is not None
    kinds = [[assertion.name for assertion in case.assertions] for case in suite.cases]
    assert kinds == [["latency", "icontains"], ["latency", "equals"]]
    assert suite.cases[1].assertions[1].value == "{{x}}"
    for word in ("{% if polite %}", "javascript", "options", "lists of values", "providers", "has a space"):
        assert tells(plain, word), (word, plain.dropped)
    assert said(landed(chat)[0], {"ticket": "x"}) == [("system", "Sort."), ("user", "x")]


DOTPROMPT = """\
---
model: googleai/gemini
config: {temperature: 0.2, maxOutputTokens: 9, safety: x}
input:
  schema: {topic: string, count?: "integer, how many", tone?: string, deep: {a: string}}
  default: {tone: calm}
output: {format: json, schema: {x: string}}
---
{{role "system"}}
Be {{tone}} about {{deep}}.
{{history}}
{{role "user"}}
Tell {{count}} things of {{topic}}.{{#if more}} More!{{else}} Less.{{/if}}
"""


def test_dotprompt_roles_history_and_picoschema_are_carried_and_helpers_told() -> None:
    made = made_by("dotprompt", DOTPROMPT)
    template, _ = landed(made)
    first, last = said(template, {"topic": "tea", "count": 2, "deep": "it"})
    assert first == ("system", "Be calm about it.")
    assert last == ("user", "Tell 2 things of tea.{{#if more}} More!{{else}} Less.{{/if}}")
    assert isinstance(template.messages[1], Placeholder)
    assert template.response_format == {"type": "json_object"}
    for words in (("googleai/gemini",), ("safety",), ("#if more",), ("else",), ("deep",), ("output.schema",)):
        assert tells(made, *words), (words, made.dropped)


PROMPTY = """\
---
name: Basic
description: Say hello
model: {api: chat, parameters: {max_tokens: 12, odd: 1}}
sample: {who: Ann}
---
system:
You greet.

user:
Hello {{who}} {% for x in y %}
"""


def test_prompty_messages_are_carried() -> None:
    made = made_by("prompty", PROMPTY)
    template, _ = landed(made)
    assert said(template, {"who": "Bo"}) == [("system", "You greet."), ("user", "Hello Bo {% for x in y %}")]
    assert dict(template.parameters) == {"max_tokens": 12}
    for words in (("sample",), ("odd",), ("{% for x in y %}",), ("model.api",)):
        assert tells(made, *words), (words, made.dropped)
