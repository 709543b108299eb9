"""A prompt is found by what names it, or not at all; and every model has a tier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.library import Library, PromptNotFound, Version, tier_of
from prompts.reference import Reference, ReferenceRefused, read_reference, reference
from prompts.template import Template, Text

TRIAGE = {n: Version(Template("support/triage", (Text("user", f"Say {n}."),)), n) for n in (1, 2, 10)}
LIBRARY = Library({"support/triage": TRIAGE}, {"support/triage": {"production": 2, "staging": 10}})


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("support/triage", 2),
        ("support/triage@production", 2),
        ("support/triage@staging", 10),
        ("support/triage@1", 1),
        ("support/triage@latest", 10),
    ],
)
def test_a_prompt_is_found_by_number_or_label(written: str, number: int) -> None:
    assert LIBRARY.find(read_reference(written)).number == number


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("support/other", "no prompt 'support/other'"),
        ("support/triage@prod", "no label 'prod'; there are: production, staging"),
        ("support/triage@3", "no version 3; the latest is 10"),
    ],
)
def test_what_is_not_there_is_told_and_nothing_else_is_served(written: str, says: str) -> None:
    with pytest.raises(PromptNotFound, match=says):
        LIBRARY.find(read_reference(written))


@pytest.mark.parametrize("written", ["", "@", "a@", "A", "a b", "a//b", "/a", "a@0", "a@-1", "a@B", "a@1x", "a@b@c"])
def test_what_names_no_prompt_is_refused(written: str) -> None:
    with pytest.raises(ReferenceRefused):
        read_reference(written)


@given(st.text() | st.from_regex(r"[a-z0-9/_-]{1,9}@?[a-z0-9.]{0,9}", fullmatch=True))
def test_any_text_is_a_reference_or_refused_and_a_reference_reads_back(text: str) -> None:
    try:
        found = read_reference(text)
    except ReferenceRefused:
        return
    assert read_reference(str(found)) == found
    assert (found.number is None) != (found.label is None)


def test_a_label_is_never_taken_for_a_version() -> None:
    assert reference("a", "7") == reference("a", 7) == Reference("a", number=7)
    assert reference("a", "v7") == Reference("a", label="v7")


def test_a_version_is_known_to_the_router_by_its_key() -> None:
    assert {v.number for v in LIBRARY.by_key.values()} == {1, 2, 10}
    assert LIBRARY.by_key[TRIAGE[2].template.key] is TRIAGE[2]


@given(models=st.integers(1, 9), names=st.lists(st.sampled_from("abcdefgh"), max_size=5, unique=True).map(tuple))
def test_every_model_has_a_tier_the_safe_one_the_last_and_none_is_under_a_cheaper_one(
    models: int, names: tuple[str, ...]
) -> None:
    tiers = [tier_of(place, models, names) for place in range(models)]
    known = names or ("small", "large")
    assert tiers[-1] == known[-1]
    assert [known.index(tier) for tier in tiers] == sorted(known.index(tier) for tier in tiers)
