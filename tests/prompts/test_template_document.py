"""A canonical form from elsewhere is the template that wrote it, or none."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.folder import load
from prompts.template import Hold, Placeholder, Routing, Template, Text, Variant
from prompts.template_document import read_template

FOLDERS = [Path(__file__).parent / "library", Path(__file__).parents[2] / "prompts" / "templates"]
FULL = Template(
    "a/b",
    (Text("system", "{% include 'v' %}"), Placeholder(), Text("user", "{{ x }}")),
    {"type": "object", "properties": {"x": {"type": "string"}, "bar": {"default": None}}},
    "says it",
    "large",
    {"temperature": 0.5, "bar": None, "stop": ["a"]},
    {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    Routing(0.9, ("small", "large"), ("x",), Hold.WHOLE),
    frozenset({"temperature"}),
    True,
    {"small": Variant((Text("user", "{{ x }}"),), {"top_p": 1}), "large": Variant(None, {"seed": 1})},
    {"v": "voice"},
)
TEMPLATES = [FULL, *(p.template for folder in FOLDERS if folder.is_dir() for p in load(folder).prompts.values())]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.id)
def test_every_template_reads_back(template: Template) -> None:
    assert read_template(orjson.loads(template.canonical)) == template


@given(key=st.sampled_from([*orjson.loads(FULL.canonical), "more"]), value=JSON)
def test_whatever_stands_in_a_part_it_is_a_template_that_can_be_written_or_refused(key: str, value: Any) -> None:
    document = {**orjson.loads(FULL.canonical), key: value}
    try:
        template = read_template(document)
    except ValueError:
        return
    assert read_template(orjson.loads(template.canonical)) == template
