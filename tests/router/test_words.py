"""Words and pairs of words become places, each once, whatever the text; and places can be written and read."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.words import PLACES, packed, places, unpacked

text = st.text()  # lone surrogates, too


@given(text)
@example("\ud800 \x00 \U0001f600 ß İ")
def test_any_text_has_places_in_order_each_once_and_always_the_same(of: str) -> None:
    found = places(of)

    assert list(found) == sorted(set(found))
    assert all(0 <= place < PLACES for place in found)
    assert places(of) == found


@given(st.lists(st.sampled_from(["gold", "rises", "falls", "7", "?"]), max_size=8))
def test_upper_case_and_spaces_say_nothing(words: list[str]) -> None:
    assert places("  ".join(words).upper()) == places(" ".join(words))


def test_a_word_said_again_adds_its_pairs_and_nothing_else() -> None:
    assert places("gold") == places("Gold")
    assert set(places("gold rises")) > set(places("gold")) | set(places("rises"))
    assert len(places("gold rises")) == 3
    assert places("gold rises gold rises gold") == places("gold rises gold")


def test_a_pair_and_its_reverse_are_two() -> None:
    assert places("dog bites man") != places("man bites dog")


@given(st.sets(st.integers(0, PLACES - 1)).map(sorted))
def test_what_is_packed_is_read_back(of: list[int]) -> None:
    assert list(unpacked(packed(of))) == of


@pytest.mark.parametrize("wrong", ["A", "AA==", "//8=", "no base64"])
def test_refuses_what_was_not_packed(wrong: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # base64 has its own words
        unpacked(wrong)
