"""Rendering: what a template says to a tier, what it refuses, and the limits that hold whatever it is given."""

import subprocess
import sys
from typing import Any

import pytest

from prompts.folder import load
from prompts.message import Message
from prompts.render import FUEL, MOST_CHARACTERS, MessagesRefused, Rendered, RenderFailed, compiled, render
from prompts.tags import TagTooLong
from prompts.template import Part, Placeholder, Template, Text, Variant
from prompts.variables import VariablesRefused
from tests.prompts.trees import LIBRARY

ANY = {"type": "object", "properties": {"x": {}, "y": {}}}
TRIAGE = load(LIBRARY).prompts["support/triage"].template


def template(*contents: str, **more: Any) -> Template:
    return Template("a/b", tuple(Text("user", content) for content in contents), inputs=ANY, **more)


def said(content: str, **variables: object) -> str:
    return str(render(template(content), None, variables).messages[0]["content"])


def failed(content: str, **variables: object) -> str:
    with pytest.raises(RenderFailed) as error:
        said(content, **variables)
    return str(error.value)


def test_a_tier_is_told_its_own_text_and_any_other_the_base() -> None:
    small, large = (render(TRIAGE, tier, {"ticket": "It hangs."}) for tier in ("small", "large"))
    assert (small.variant, large.variant) == ("small", "base")
    assert small.parameters == {"temperature": 0, "max_tokens": 4}
    assert [message["role"] for message in small.messages] == ["system", "user", "assistant", "user"]
    assert large.messages == [
        {
            "role": "system",
            "content": "You are exact and brief.\nWrite English, in plain words.\n"
            "Answer with exactly one of: bug, billing, question. The product is core.",
        },
        {"role": "user", "content": "It hangs."},
    ]
    assert large.prompt == "support/triage"


def test_the_clients_messages_go_where_the_placeholder_is_or_to_the_end() -> None:
    mine = [{"role": "user", "content": "{{ x }}", "name": "kept"}]
    parts: tuple[Part, ...] = (Text("system", "a"), Placeholder(), Text("user", "b"))
    assert render(Template("a", parts), None, {}, mine).messages[1] is mine[0]
    assert render(Template("a", (Text("system", "a"),)), None, {}, mine).messages[1] is mine[0]


@pytest.mark.parametrize("role", ["system", "developer", "System", "owner", None, 1, ["system"]])
def test_a_client_says_nothing_in_the_systems_name(role: object) -> None:
    messages: list[Message] = [{"role": "user", "content": "x"}, {"role": role, "content": "x"}]
    with pytest.raises(MessagesRefused, match=r"messages\.1: ") as refused:
        render(TRIAGE, None, {"ticket": "x"}, messages)
    assert refused.value.place == 1


def test_a_template_may_let_a_clients_system_messages_in() -> None:
    tutor = load(LIBRARY).prompts["chat/tutor"].template
    messages = [{"role": "system", "content": "x"}]
    assert render(tutor, None, {"pupil": "Ann"}, messages).messages[1] is messages[0]


def test_a_request_comes_before_the_template_but_for_what_it_locks() -> None:
    rendered = render(TRIAGE, "small", {"ticket": "x"})
    body = rendered.over({"temperature": 1, "max_tokens": 9, "seed": 1, "messages": [], "model": "auto"})
    assert body == {
        "temperature": 0,
        "max_tokens": 9,
        "seed": 1,
        "model": "auto",
        "messages": rendered.messages,
        "response_format": {"type": "text"},
    }


def test_what_is_locked_and_not_set_is_the_clients() -> None:
    one = Template("a", (Text("user", "x"),), locked=frozenset(["seed"]))
    assert render(one, None, {}).over({"seed": 7})["seed"] == 7


def test_variables_are_checked_before_anything_is_rendered() -> None:
    with pytest.raises(VariablesRefused, match=r"support/triage: /ticket: is required, and not there"):
        render(TRIAGE, None, {})


@pytest.mark.parametrize(
    ("content", "x", "text"),
    [
        ("{{ x }}", "<b>&\"'", "<b>&\"'"),
        ("{{ x }}", True, "true"),
        ("{{ x }}", None, "null"),
        ("{{ x }}", 1.5, "1.5"),
        ("{{ x }}", ["<a>", {"b": None}], '["<a>",{"b":null}]'),
        ("{{ x|tojson }}", "<a>\n", '"<a>\\n"'),
        ("{{ x|tojson(indent=2) }}", {"a": 1}, '{\n  "a": 1\n}'),
        ("{{ x }}\n", "y\n", "y\n"),
        ("{{ x }}", "{{ 7*7 }}{% raw %}{# y #}", "{{ 7*7 }}{% raw %}{# y #}"),
        ("{% set a = x %}{{ a }}{{ a|upper }}", "{{ y }}", "{{ y }}{{ Y }}"),
    ],
)
def test_a_text_stands_as_it_is_and_anything_else_as_json(content: str, x: object, text: str) -> None:
    assert said(content, x=x) == text


@pytest.mark.parametrize(
    "content",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ x }}{% endfor %}",
        "{% set n = namespace(a='aaaaaaaa') %}{% for i in range(99) %}{% set n.a = n.a ~ n.a %}{% endfor %}{{ n.a }}",
        "{{ 'a' * 1000000000 }}",
        "{{ '%999999999s'|format(1) }}",
        "{{ x|indent(100000000) }}",
        "{{ x|replace('x', x)|replace('x', x) }}",
        "{% for a in range(100000) %}{% set y = x|tojson %}{% endfor %}",
    ],
)
def test_a_template_that_goes_on_is_stopped(content: str) -> None:
    told = failed(content, x="x\n" * 100_000)
    assert f"more than {FUEL:,} steps" in told or "more than" in told
    assert told.startswith("a/b (base), message 0")


@pytest.mark.parametrize(
    "content",
    [
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ],
)
def test_a_template_that_calls_itself_is_stopped(content: str) -> None:
    assert "recursion" in failed(content)


def test_what_is_said_has_a_limit_in_characters() -> None:
    many = template(*["{{ x }}"] * 5)
    with pytest.raises(RenderFailed, match=f"more than {MOST_CHARACTERS:,} characters"):
        render(many, None, {"x": "x" * 1_000_000})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("\n{{ x.y.z }}", "message 0, line 2: uses a value that is not there"),
        ("{{ 1 / 0 }}", "message 0, line 1: "),
        ('{% include "p" %}', "message 0, partial p, line 2: uses a value that is not there"),
        ('{% include "q" %}', "message 0, partial q, line 2: takes more than"),
        ("{{ 2 ** 70 }}", "message 0: what it writes is not JSON: Integer exceeds 64-bit range"),
        ("{{ debug() }}", "unknown function"),
        ("{{ x.__class__ }}", "uses a value that is not there"),
        ("{{ x.upper() }}", "has no method named upper"),
    ],
)
def test_a_template_that_cannot_say_it_tells_where(content: str, told: str) -> None:
    one = template(content, partials={"p": "\n{{ x.y.z }}", "q": "\n{% for i in range(100000) %}{{ x }}{% endfor %}"})
    with pytest.raises(RenderFailed) as error:
        render(one, None, {"x": {}} if "upper" not in content else {"x": "x"})
    assert told in str(error.value)


@pytest.mark.parametrize(
    "content", ["{% include x %}", '{% include "gone" %}', '{% extends "p" %}', '{% import "p" as p %}']
)
def test_a_variable_never_chooses_what_is_read(content: str) -> None:
    with pytest.raises(ValueError, match="partial"):
        render(template(content, partials={"p": "x"}), None, {"x": "p"})


@pytest.mark.parametrize("link", ["not ", "-", "1+", "2**", "x~", "x and ", "x is not a and "])
def test_a_tag_that_would_end_the_process_is_refused_before_it_is_read(link: str) -> None:
    with pytest.raises(TagTooLong):
        said("{{ " + link * (60_000 // len(link)) + "1 }}")


def test_a_version_is_made_ready_once() -> None:
    again = load(LIBRARY).prompts["support/triage"].template
    assert again is not TRIAGE
    assert compiled(again) is compiled(TRIAGE)


def test_a_variant_with_parameters_only_says_what_the_base_says() -> None:
    one = Template("a", (Text("user", "x"),), parameters={"seed": 1}, variants={"small": Variant(parameters={"n": 1})})
    rendered: Rendered = render(one, "small", {})
    assert rendered.messages == [{"role": "user", "content": "x"}]
    assert rendered.parameters == {"seed": 1, "n": 1}


def test_who_names_no_prompt_loads_no_engine() -> None:
    """Neither the gateway nor importing all of this brings the template engine or the validator along."""
    program = (
        "import sys, gateway.app, prompts.render, prompts.folder, prompts.lint, prompts.diff\n"
        "print(sorted({'minijinja', 'jsonschema_rs'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
