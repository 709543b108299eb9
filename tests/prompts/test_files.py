"""What is written as files is read back as the same version."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.files import files_of
from prompts.folder import load
from prompts.template import Hold, Placeholder, Routing, Template, Text, Variant
from tests.prompts.trees import LIBRARY, write

texts = st.text(max_size=30).filter(lambda text: text.isprintable() and "{" not in text)
INPUTS = {"type": "object", "properties": {"x": {"type": "string", "default": "1e3"}}, "required": []}


def again(template: Template) -> Template:
    with TemporaryDirectory() as folder:
        return load(write(Path(folder), dict(files_of(template)))).prompts[template.id].template


@pytest.mark.parametrize("prompt_id", sorted(load(LIBRARY).prompts))
def test_every_prompt_of_a_folder_comes_back_with_its_digest(prompt_id: str) -> None:
    template = load(LIBRARY).prompts[prompt_id].template
    assert again(template).digest == template.digest


stops = st.lists(texts, max_size=2)


hexes = st.lists(st.text("0123456789abcdef", min_size=12, max_size=12), max_size=20).map(tuple)  # 1e3 is among them


@given(content=texts, description=texts, stop=stops, tier=st.sampled_from([None, "small"]), fitted=hexes)
def test_whatever_a_template_says_comes_back(
    content: str, description: str, stop: list[str], tier: str | None, fitted: tuple[str, ...]
) -> None:
    template = Template(
        "a/b",
        (Text("system", 'Say {{ x }}. {% include "p/q" %}\n\n'), Placeholder(), Text("user", content)),
        INPUTS,
        description,
        parameters={"stop": [piece for piece in stop if piece < "\ud800"], "temperature": 0.5},
        response_format={"type": "json_object"},
        routing=Routing(0.9, ("small", "large"), ("x",), Hold.FIRST),
        locked=frozenset({"stop"}),
        client_system=True,
        variants={tier: Variant(None, {"top_p": 0.1}, fitted)} if tier else {},
        fitted=fitted[::2],
        partials={"p/q": content},
    )
    assert again(template).digest == template.digest
