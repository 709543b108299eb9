"""What a template that may be served could do better, each finding with the text that brings it about."""

from typing import Any

import pytest

from prompts.check import Place, Severity, errors
from prompts.folder import fault_of, load
from prompts.lint import lint, prefix
from prompts.template import BASE, Part, Placeholder, Routing, Template, Text, Variant
from tests.prompts.trees import LIBRARY

LONG = "This is fixed, and every request says it again. " * 20


def template(*parts: Part, variables: dict[str, Any] | None = None, **more: Any) -> Template:
    inputs = {"type": "object", "properties": variables or {}}
    return Template("a/b", parts, inputs=inputs, **{"description": "x", **more})


def codes(one: Template, **more: Any) -> list[str]:
    return [finding.code for finding in lint(one, **more)]


def test_nothing_is_said_of_what_is_well() -> None:
    assert codes(load(LIBRARY).prompts["support/triage"].template) == []


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (template(Text("user", "{{ x }}")), "undeclared"),
        (template(Text("user", "{% for a in [1] %}{{ a }}{% endfor %}{{ a }}")), "undeclared"),
        (template(Text("user", '{% include "p" %}'), partials={"p": "{{ x }}"}), "undeclared"),
        (template(Text("system", "{{ x }}"), variables={"x": {"x-untrusted": True}}), "untrusted"),
        (template(Text("assistant", "{{ x }}"), variables={"x": {"x-untrusted": True}}), "untrusted"),
        (
            template(
                Text("user", '{% include "p" %}'),
                Text("developer", '{% include "q" %}'),
                partials={"p": "{{ x }}", "q": '{% include "p" %}'},
                variables={"x": {"x-untrusted": True}},
            ),
            "untrusted",
        ),
        (template(Text("user", '{% include "p" %}'), partials={"p": '{% include "p" %}'}), "cyclic-partial"),
        (template(Text("user", '{% include "p" %}')), "partial"),
        (template(Text("user", "{% block x %}{% endblock %}")), "partial"),
        (template(Text("user", "{{ x")), "syntax"),
        (template(Text("user", "{{ 1|shout }}")), "word"),
        (template(Text("user", "{{ 1 is loud }}")), "word"),
        (template(Text("user", "{{ shout(1) }}")), "undeclared"),
        (template(Text("user", "x" * 70_000)), "too-long"),
        (template(Text("user", "{{ " + "not " * 10_000 + "1 }}")), "too-long"),
        (template(Text("user", "{% if 1 %}" + "{% elif 1 %}" * 5000 + "{% endif %}")), "too-long"),
        (template(Text("tool", "x")), "role"),
        (template(), "messages"),
        (template(Placeholder()), "messages"),
        (template(*[Text("user", "x")] * 65), "messages"),
        (template(Text("user", "x"), Placeholder(), Placeholder()), "placeholder"),
        (template(Text("user", "x"), variables={"x": {"type": "strung"}}), "inputs"),
        (template(Text("user", "x"), variables={"x": {"pattern": "(a{999}){999}"}}), "inputs"),
        (template(Text("user", "x"), variables={"x": {"$ref": "http://127.0.0.1:1/"}}), "inputs"),
        (template(Text("user", "x"), variables={"a b": {}}), "inputs"),
        (template(Text("user", "x"), parameters={"temprature": 1}), "parameter"),
        (template(Text("user", "x"), parameters={"stream": True}), "parameter"),
        (template(Text("user", "x"), routing=Routing(bar=1.5)), "bar"),
        (template(Text("user", "x"), routing=Routing(tiers=("small",)), variants={"large": Variant()}), "tiers"),
        (template(Text("user", "x"), variants={"base": Variant()}), "tier"),
        (template(Text("user", "x"), response_format={"type": "json_schema", "json_schema": {}}), "inputs"),
    ],
)
def test_what_may_not_be_served_is_an_error(one: Template, code: str) -> None:
    [found, *_] = errors(one)
    assert (found.code, found.severity) == (code, Severity.ERROR)
    assert lint(one) == errors(one)


def test_an_id_is_a_path_that_no_label_or_tier_can_be_taken_for() -> None:
    for wrong in ("", "a@b", "a.small", "A", "/a", "a/", "a//b", "-a", "a" * 100, "/".join("abcdefghi")):
        assert errors(Template(wrong, (Text("user", "x"),)))[0].code == "id"
    assert errors(Template("support/triage_2-b/x", (Text("user", "x"),))) == []


def test_a_variable_that_no_message_reads_is_told() -> None:
    [found] = lint(template(Text("user", "x"), variables={"x": {}}))
    assert (found.code, found.place) == ("unused", Place(BASE, ("inputs", "properties", "x")))
    by_it = template(Text("user", "x"), variables={"x": {}}, routing=Routing(stratify_by=("x",)))
    assert codes(by_it) == []


def test_a_missing_description_and_suite_are_told() -> None:
    assert codes(template(Text("user", "x"), description=" "), has_suite=False) == ["description", "suite"]


def test_a_published_version_that_was_changed_is_told() -> None:
    one = template(Text("user", "x"))
    assert codes(one, published=one.digest) == []
    assert codes(one, published=template(Text("user", "y")).digest) == ["changed"]


def test_a_variant_that_reads_other_variables_is_told() -> None:
    both: dict[str, Any] = {"x": {}, "y": {}}
    drifted = {"small": Variant((Text("user", "{{ y }}"),)), "large": Variant(parameters={"seed": 1})}
    found = lint(template(Text("user", "{{ x }}"), variables=both, variants=drifted))
    assert [(finding.code, finding.place.source) for finding in found] == [("variant", "small")] * 2
    assert [finding.message for finding in found] == [
        "base reads 'x', and small does not",
        "small reads 'y', and base does not",
    ]


def test_an_early_variable_is_told_with_what_can_be_kept() -> None:
    when = {"type": "string", "x-volatility": "daily"}
    late = {"type": "string", "x-volatility": "per_request"}
    early = template(
        Text("system", f"It is {{{{ when }}}}. {LONG}"), Text("user", "{{ x }}"), variables={"when": when, "x": late}
    )
    counters = {"small": lambda text: len(text) // 4, "large": len}
    [found] = lint(early, counters=counters)
    assert found.code == "early-variable"
    fixed = len(f"It is . {LONG}")
    assert found.message == (
        f"'when' (daily) ends what an engine can keep after 6 of {fixed} fixed characters, "
        "1 tokens on small, 6 tokens on large"
    )
    ends = template(
        Text("system", f"{LONG}It is {{{{ when }}}}."), Text("user", "{{ x }}"), variables={"when": when, "x": late}
    )
    assert codes(ends) == []


def test_a_static_variable_is_a_part_of_the_prefix() -> None:
    name = {"type": "string", "default": "core", "x-volatility": "static"}
    one = template(Text("system", "{{ name }}{{ name }}!"), Text("user", "{{ x }}"), variables={"name": name, "x": {}})
    known = prefix(one, BASE)
    assert known is not None
    assert (known.characters, known.fixed_characters) == (len("corecore!"), len("corecore!"))


def test_the_clients_messages_end_the_prefix() -> None:
    [found] = lint(template(Text("system", "x"), Placeholder(), Text("system", LONG)))
    assert found.message.startswith("the client's messages (per_request) ends what an engine can keep after 1 of")


def test_tokens_are_counted_of_the_text_that_a_tier_is_told() -> None:
    variants = {"small": Variant((Text("user", "abc"),)), "large": Variant(parameters={"seed": 1})}
    one = template(Text("user", "abcdef"), variants=variants)
    counters = dict.fromkeys(("small", "medium", "large"), len)
    known = [prefix(one, variant, counters) for variant in (BASE, "small")]
    assert [found.tokens if found else None for found in known] == [{"medium": 6, "large": 6}, {"small": 3}]


@pytest.mark.parametrize("text", ["{{ x }}", "{{ x|tojson }}", "{% for k, v in x|items %}{{ k }}{% endfor %}"])
def test_what_hangs_on_the_order_of_a_clients_keys_is_told(text: str) -> None:
    assert codes(template(Text("user", text), variables={"x": {"type": "object"}})) == ["order"]
    sorted_by_name = text.replace("x", "x|dictsort", 1).replace("|items", "")
    assert codes(template(Text("user", sorted_by_name), variables={"x": {"type": "object"}})) == []


def test_what_cannot_be_rendered_with_made_up_values_is_told() -> None:
    assert codes(template(Text("user", "{{ x.y.z }}"), variables={"x": {"type": "object"}})) == ["sample"]


def test_a_finding_is_told_by_file_and_line() -> None:
    prompt = load(LIBRARY).prompts["extract/order"]
    [found] = lint(prompt.template)
    fault = fault_of(prompt, found)
    assert (fault.path, fault.line, fault.column) == (LIBRARY / "extract/order/order.prompt.yaml", 20, 1)
    assert str(fault).startswith(f"{fault.path}:20:1: messages: what it says depends on the order")
