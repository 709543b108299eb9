"""Template tags are found where the engine finds them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minijinja import Environment, TemplateError

from prompts.tags import TagTooLong, check_tags, tags

BEGINS = ("{{ 1", "{{ ", "{{ [1", "{{ {", "{% set x = ")
STRINGS = (
    "'a'",
    "'}}'",
    '"%}"',
    r"'\'}}'",
    r'"\"%}"',
    "'{{'",
)  # one that is not closed is an error anywhere
INSIDE = ("{", "}", "}}", "%}", "[", "]", "(", ")", "1", ",", ":", "-", " ", "{'a': 1}", *STRINGS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a {{ x }} b {% if x %}", ["{{ x }}", "{% if x %}"]),
        ("{{ {'a': {'b': {}}}}} }}", ["{{ {'a': {'b': {}}}}}"]),
        ("{{ '}}' }} {% set x = \"%}\" %}", ["{{ '}}' }}", '{% set x = "%}" %}']),
        (r"{{ 'a\'}}' }}", [r"{{ 'a\'}}' }}"]),
        ("{# {{ x }} #}{{ y }}", ["{{ y }}"]),
        ("{% raw %}{{ x }}{%- endraw -%}{{ y }}", ["{{ y }}"]),
        ("a {{ x", ["{{ x"]),
        ("a {# x", []),
        ("no tags, { } % or }}", []),
    ],
)
def test_a_tag_ends_where_its_end_counts(text: str, found: list[str]) -> None:
    assert [tag.text for tag in tags(text)] == found
    assert all(text.startswith(tag.text, tag.offset) for tag in tags(text))


@given(st.sampled_from(BEGINS), st.lists(st.sampled_from(INSIDE), max_size=10))
def test_no_tag_is_longer_for_the_engine_than_it_is_here(begins: str, inside: list[str]) -> None:
    """Where a tag ends here, the engine does not read on: it takes the tag, or finds it wrong."""
    [tag, *_] = tags(begins + "".join(inside) + "@")
    if tag.text.endswith("@"):
        return  # it is not closed at all, and so counts to the end of the text
    said = ""
    try:
        Environment(debug=False).render_str(tag.text)
    except TemplateError as error:
        said = error.message
    assert "unexpected end of input" not in said


def test_a_long_tag_and_many_elifs_are_refused_by_their_place() -> None:
    with pytest.raises(TagTooLong, match="3,001 characters") as refused:
        check_tags("ab {{" + "1" * 2997 + "}}")
    assert refused.value.offset == 3
    with pytest.raises(TagTooLong, match="elif"):
        check_tags("{% if x %}" + "{% elif x %}" * 201)
    check_tags("-" * 60_000 + "{{ x }}" * 5000)
