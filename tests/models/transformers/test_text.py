"""Texts come as they are made: whole characters, and nothing that an end makes unsaid."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from models.transformers.text import Detokenizer, Stops


def bytewise(ids: Sequence[int]) -> str:
    """A vocabulary of single bytes, the hardest there is."""
    return bytes(ids).decode(errors="replace")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")))
def test_the_pieces_make_the_text_and_no_piece_is_half_a_character(text: str) -> None:
    detokenizer = Detokenizer(bytewise)
    pieces = [detokenizer.feed(byte) for byte in text.encode()]

    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(min_value=0, max_value=255), max_size=40))
def test_bytes_that_are_no_text_are_told_sooner_or_later(ids: list[int]) -> None:
    """A model may write any bytes: nothing is held back for good."""
    detokenizer = Detokenizer(bytewise)
    told = "".join(detokenizer.feed(id) for id in [*ids, *b"end of it"])

    assert told.endswith("of it")


texts = st.text(st.sampled_from("ab \n"), max_size=30)


@given(st.lists(texts, max_size=12), st.lists(st.text(st.sampled_from("ab \n"), min_size=1, max_size=4), max_size=3))
def test_what_is_told_is_the_text_up_to_the_first_end(pieces: list[str], ends: list[str]) -> None:
    whole = "".join(pieces)
    stops = Stops(tuple(ends))
    told = "".join(stops.feed(piece) for piece in pieces) + stops.rest()

    places = [place for place in (whole.find(end) for end in ends) if place >= 0]
    assert told == whole[: min(places, default=len(whole))]
    assert stops.found == bool(places)


def test_what_cannot_be_the_end_is_told_at_once() -> None:
    stops = Stops(("END",))

    assert [stops.feed(piece) for piece in ("one E", "N", "X two E", "ND three")] == ["one ", "", "ENX two ", ""]
    assert stops.found
