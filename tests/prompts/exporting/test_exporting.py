"""What leaves the folder can be read by its tool, and comes back as it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.exporting import FORMATS
from prompts.folder import load
from prompts.importing import FORMATS as IMPORTS
from prompts.suite_file import load_suite
from prompts.template import Template, Text, Variant
from prompts.writing import yaml_of
from prompts.yamlfile import parse_yaml
from tests.prompts.importing.landed import landed, said
from tests.prompts.importing.test_importing import usable
from tests.prompts.trees import LIBRARY

roles = st.sampled_from(["system", "user", "assistant"])


said_by = st.lists(st.tuples(roles, usable), min_size=1, max_size=3)


@given(messages=said_by, rows=st.lists(usable, max_size=3, unique=True))
def test_github_there_and_back_is_the_same_prompt_and_suite(messages: list[tuple[str, str]], rows: list[str]) -> None:
    source = {
        "name": "a/b",
        "description": "About it",
        "modelParameters": {"temperature": 0, "maxTokens": 5},
        "responseFormat": "json_object",
        "messages": [{"role": role, "content": text} for role, text in [*messages, ("user", "{{q}}")]],
        "testData": [{"q": row, "expected": "yes"} for row in rows],
        "evaluators": [{"name": "contains", "string": {"contains": "{{expected}}"}}],
    }
    [first] = IMPORTS["github"](yaml_of(source), "b")
    template, suite = landed(first)
    exported = FORMATS["github"].write(template, suite, None)
    [second] = IMPORTS["github"](exported.text, "b")
    again, suite_again = landed(second)
    assert again.digest == template.digest
    assert (suite and suite.digest) == (suite_again and suite_again.digest)


@pytest.mark.parametrize("name", FORMATS)
def test_every_prompt_of_a_folder_can_be_written(name: str) -> None:
    folder = load(LIBRARY)
    for prompt in folder.prompts.values():
        home = prompt.documents["base"].file.path.parent
        suite = load_suite(home) if prompt.tests else None
        exported = FORMATS[name].write(prompt.template, suite, "small")
        if name == "jsonl":
            assert [json.loads(line)["prompt"] for line in exported.text.splitlines()] == [prompt.template.id] * (
                len(suite.cases) if suite else 0
            )
        else:
            assert parse_yaml(Path("x"), exported.text, None).value


def test_partials_stand_in_their_place_and_what_has_no_place_is_told() -> None:
    template = Template(
        "a",
        (
            Text("developer", 'Begin. {% include "voice" %} {% if x is defined %}{{ x }}{% endif %}'),
            Text("user", "{{ y }}"),
        ),
        {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}},
        partials={"voice": "Be {{ y }}.\n"},
        parameters={"min_p": 0.1},
    )
    exported = FORMATS["github"].write(template, None, None)
    assert "Begin. Be {{y}}. {% if x is defined %}" in exported.text
    for word in ("{% if x is defined %}", "inputs.x", "min_p", "developer"):
        assert any(word in told for told in exported.dropped), word


def test_promptfoo_gets_messages_that_are_json_and_the_cases() -> None:
    [made] = IMPORTS["github"](
        json.dumps(
            {
                "messages": [{"role": "user", "content": 'Say "{{q}}" or {{ 1 }}'}],
                "testData": [{"q": "a"}],
                "evaluators": [{"name": "n", "string": {"equals": "a"}}],
            }
        ),
        "b",
    )
    template, suite = landed(made)
    document = parse_yaml(Path("x"), FORMATS["promptfoo"].write(template, suite, None).text, None).value
    [message] = json.loads(document["prompts"][0]["raw"])
    assert message == {"role": "user", "content": "Say \"{{ q }}\" or {{ '{' }}{ 1 }}"}
    assert document["tests"][0]["assert"] == [{"type": "equals", "value": "a"}]
    assert said(template, {"q": "a"}) == [("user", 'Say "a" or {{ 1 }}')]


@pytest.mark.parametrize("name", ["github", "promptfoo"])
def test_it_is_told_where_nothing_there_says_that_cases_prove_nothing_of_the_text(name: str) -> None:
    """Whoever brings it back as another prompt has to know: the marks are not in it."""
    template = Template("a", (Text("user", "Say it."),), variants={"small": Variant((Text("user", "Say a."),))})
    fitted = replace(template, variants={"small": replace(template.variants["small"], fitted=("0" * 12,))})
    assert not any("fitted" in told for told in FORMATS[name].write(fitted, None, None).dropped)
    [told] = [told for told in FORMATS[name].write(fitted, None, "small").dropped if "fitted" in told]
    assert "1 cases prove nothing" in told
