"""The identity of a template: its canonical form and the digest of that."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.folder import load
from prompts.template import BASE, Hold, Part, Placeholder, Routing, Template, Text, Variant, template_of
from tests.prompts.trees import LIBRARY

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
objects = st.dictionaries(names, values, max_size=3)
parts: st.SearchStrategy[Part] = st.builds(Text, st.sampled_from(["system", "user"]), texts) | st.just(Placeholder())
messages = st.lists(parts, max_size=3).map(tuple)
variants = st.dictionaries(names, st.builds(Variant, st.none() | messages, objects), max_size=2)
routings = st.builds(
    Routing,
    st.none() | st.floats(0, 1),
    st.none() | st.lists(names, max_size=2).map(tuple),
    st.lists(names, max_size=2).map(tuple),
    st.none() | st.sampled_from(Hold),
)
templates = st.builds(
    Template,
    id=names,
    messages=messages,
    inputs=objects,
    description=texts,
    model=names,
    parameters=objects,
    response_format=st.none() | objects,
    routing=routings,
    locked=st.frozensets(names, max_size=3),
    client_system=st.booleans(),
    variants=variants,
    partials=st.dictionaries(names, texts, max_size=2),
)


@given(templates)
def test_a_canonical_form_makes_the_same_template(template: Template) -> None:
    again = template_of(template.canonical)
    assert again == template
    assert again.canonical == template.canonical
    assert (again.digest, again.key) == (template.digest, template.key)
    assert again.routing == template.routing
    assert again.messages == template.messages


@given(templates)
def test_a_digest_does_not_hang_on_the_order_of_keys_nor_on_the_form_of_numbers(template: Template) -> None:
    said = orjson.loads(template.canonical)

    def otherwise(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: otherwise(value[key]) for key in reversed(value)}
        if isinstance(value, list):
            return [otherwise(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    form = said.pop("format")
    assert template_of(orjson.dumps({**otherwise(said), "format": form})).digest == template.digest


def variations() -> dict[str, Template]:
    message = (Text("user", "x"),)
    return {
        "id": Template("b", message),
        "messages": Template("a", (Text("user", "y"),)),
        "role": Template("a", (Text("system", "x"),)),
        "placeholder": Template("a", (*message, Placeholder())),
        "inputs": Template("a", message, inputs={"type": "object", "properties": {"x": {}}}),
        "parameters": Template("a", message, parameters={"seed": 1}),
        "response format": Template("a", message, response_format={"type": "text"}),
        "locked": Template("a", message, locked=frozenset(["seed"])),
        "client_system": Template("a", message, client_system=True),
        "variant": Template("a", message, variants={"small": Variant(parameters={"seed": 1})}),
        "partial": Template("a", message, partials={"voice": "x"}),
    }


def test_whatever_a_model_may_see_is_in_the_key_and_the_digest() -> None:
    base = Template("a", (Text("user", "x"),))
    every = [base, *variations().values()]
    assert len({template.key for template in every}) == len({template.digest for template in every}) == len(every)


@pytest.mark.parametrize(
    "other",
    [
        Template("a", (Text("user", "x"),), description="y"),
        Template("a", (Text("user", "x"),), model="small"),
        Template("a", (Text("user", "x"),), routing=Routing(bar=0.5)),
    ],
)
def test_what_no_model_sees_is_another_version_that_keeps_its_evidence(other: Template) -> None:
    base = Template("a", (Text("user", "x"),))
    assert other.digest != base.digest
    assert other.key == base.key


def test_what_a_tier_is_told_is_its_own_text_only() -> None:
    base = Template("a", (Text("user", "x"),))
    small = Template("a", (Text("user", "x"),), variants={"small": Variant((Text("user", "y"),))}, description="z")
    assert small.told("large") == small.told(None) == base.told("large") == base.told("small")
    assert small.told("small") != base.told("small")
    seeded = Template("a", (Text("user", "x"),), variants={"small": Variant(parameters={"seed": 1})})
    assert len({seeded.told("small"), seeded.told("large"), small.told("small")}) == 3


def test_lines_have_one_ending() -> None:
    windows = Template("a", (Text("user", "x\r\ny\rz"),), partials={"p": "\r\n"})
    assert windows == Template("a", (Text("user", "x\ny\nz"),), partials={"p": "\n"})


def test_a_digest_stays_what_it_is_from_release_to_release() -> None:
    """Versions, receipts and locks are kept by it. Another value here is another format, and needs a migration."""
    template = load(LIBRARY).prompts["chat/tutor"].template
    assert template.digest == "f82f59ccfd1b6b24fcf93b3ab6bd9fb351a8813546b72f326b740774ce4155e7"
    assert template.key == "5e52cf74baf1a907"


@pytest.mark.parametrize("wrong", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1}', b"[" * 2000])
def test_what_is_no_canonical_form_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"canonical form|another format"):
        template_of(wrong)


@pytest.mark.parametrize("value", ["\ud800", {1, 2}, object(), 2**70])
def test_a_template_says_json_only(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Template("a", (Text("user", "x"),), parameters={"seed": value})


def test_a_template_nested_too_deep_is_refused() -> None:
    value: object = 0
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="deeper"):
        Template("a", (Text("user", "x"),), parameters={"seed": value})


def test_a_tier_without_a_variant_is_told_the_base() -> None:
    template = load(LIBRARY).prompts["support/triage"].template
    assert [template.variant(tier) for tier in ("small", "large", None)] == ["small", BASE, BASE]
    assert template.parts(template.variant("large")) is template.messages
