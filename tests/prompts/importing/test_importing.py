"""What every import promises, whatever the format: what it makes can be loaded, says what the source said, runs nothing
of the source's syntax, and tells what is missing.
"""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.importing import FORMATS, ImportRefused
from prompts.importing.text import VARIABLE
from prompts.plainyaml import parse_plain
from prompts.writing import yaml_of
from tests.prompts.importing.landed import landed, said

# Pieces of every template language that a source may be in, so that they stand beside each other in all ways.
PIECES = ["{{", "}}", "{%", "%}", "{#", "#}", "{", "}", "{{ 7 * 7 }}", "{% raw %}", "{% endraw %}", "{{ x }}"]
PIECES += ['{% include "x" %}', "{%- for a in b %}", "{{ x | upper }}", "{{{x}}}", "{{#if x}}", "{{/if}}", "{{ dict }}"]
PIECES += ["\n", "\r\n", "\r", " ", "a", "é", "'", '"', "\\", "\t", "---", ": ", "#"]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), min_size=1, max_size=12).map("".join)
usable = texts.filter(lambda text: (text.strip() and text.isprintable()) or "\n" in text.strip()).filter(
    lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text)
)


def langfuse(text: str) -> str:
    return json.dumps({"name": "n", "type": "chat", "prompt": [{"role": "user", "content": text}]})


def openai(text: str) -> str:
    content = [{"type": "input_text", "text": text}]
    return json.dumps({"id": "pmpt_1", "messages": [{"role": "user", "content": content}]})


def github(text: str) -> str:
    return yaml_of({"messages": [{"role": "user", "content": text}]})


def promptfoo(text: str) -> str:
    return yaml_of({"prompts": [json.dumps([{"role": "user", "content": text}])]})


WRITERS = {"langfuse": langfuse, "openai": openai, "github": github, "promptfoo": promptfoo}


@pytest.mark.parametrize("name", WRITERS)
@given(text=usable, value=st.text(max_size=8))
def test_a_message_says_what_the_source_said_and_runs_nothing_of_it(name: str, text: str, value: str) -> None:
    """Plain variables are filled in; all other syntax, of any template language, stands as the text that it is."""
    [made] = FORMATS[name](WRITERS[name](text), "n")
    template, _ = landed(made)
    variables = dict.fromkeys(template.inputs["properties"], value)
    [(role, content)] = said(template, variables)
    plain = {name for name in VARIABLE.findall(text) if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name.strip())}
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    expected = VARIABLE.sub(lambda found: value if found[1] in plain else found[0], lines)
    assert (role, content) == ("user", expected)


ODD = st.sampled_from(["1e3", "yes", "~", "0x1", "null", "a: b", "|", "- x", "\n", " \n a"])
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6) | ODD


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)))
def test_what_is_written_as_yaml_is_read_back_as_it_was(value: object) -> None:
    assert parse_plain(Path("x"), yaml_of({"k": value})).value == {"k": value}


NO_FILES = ["", "[]", "{}", "null", "[1]", '{"data": []}', "---\n---\n", "a: [", '{"prompts": 3}', '{"messages": [1]}']
NO_FILES += ['{"prompt": {}}', "&a [*a]", '{"messages": {"role": 1}}', '{"prompt": "a", "config": 1, "labels": 2}']


@pytest.mark.parametrize("name", FORMATS)
@given(text=st.one_of(st.text(max_size=60), st.sampled_from(NO_FILES)))
def test_what_is_no_such_file_is_refused_in_words(name: str, text: str) -> None:
    """Nothing else is raised, whatever the file holds."""
    with suppress(ImportRefused):
        for made in FORMATS[name](text, "n"):
            landed(made)


@pytest.mark.parametrize("name", ["support/Triage Bot", "../../etc", "a//b", "", "-", "x" * 300, "Ünï"])
def test_a_name_that_is_none_here_becomes_one_and_is_told(name: str) -> None:
    [made] = FORMATS["langfuse"](json.dumps({"name": name, "prompt": "Hi"}), "file")
    landed(made)
    assert ".." not in made.id
    assert name == "" or any("is " in told and made.id in told for told in made.dropped)


@pytest.mark.parametrize(("theirs", "ours"), [("user.name", "user_name"), ("if", "v_if"), ("first-name", "first_name")])
def test_a_variable_that_cannot_be_called_so_gets_another_name_and_is_told(theirs: str, ours: str) -> None:
    [made] = FORMATS["langfuse"](json.dumps({"name": "n", "prompt": f"Hello {{{{{theirs}}}}}!"}), "n")
    template, _ = landed(made)
    assert said(template, {ours: "Ann"}) == [("user", "Hello Ann!")]
    assert any(theirs in told and ours in told for told in made.dropped)
