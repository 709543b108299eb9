"""Any way to cut a text gives what the whole text gives, and no beginning of what may not pass is ever given out."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails.blocklist import Words
from gateway.guardrails.pii import Entity, Pii
from gateway.guardrails.rail import Action, Guardrail, Side
from gateway.guardrails.sieve import Refused, Sieve, sieved

WORDS = ["bad", "bad word", "badger", "a b", "c++", "ß"]
SNIPPETS = [
    *(
        "bad",
        "badger",
        "bad word",
        "bad  word",
        "BAD\nword",
        "word",
        "a b",
        "a",
        "b",
        "c++",
        "c",
        "+",
        "\u017f",
        "ß",
        "\u212a",
    ),
    *("\u212a", "bad   word", "a   b", "bad   ", "   word"),
    *(" ", "  ", "\n", ".", ",", "x", "1", "é", "😀", "[BLOCKED]", "-", "(", "@", ":", "_"),
    *("joe@example.com", "joe@exa", "mple.co.uk", "+44 20 7946 0958", "+4420", "79460958", "(212) 555-2368"),
    *("DE89 3704 0044 0532 0130 00", "DE89", "3704 0044", "0532 0130 00", "AND", "4111 1111 1111 1111", "4111", "1111"),
    *("10.0.0.1", "10.0", "2001:db8::1", "::1", "536-90-4399", "536-90", "2026-11-25"),
]
some = st.lists(st.sampled_from(SNIPPETS), max_size=14)
texts = some.map("".join) | some.map(" ".join) | some.map(", ".join)
letters = st.text("abdr wo+ßBAD.\n", max_size=40)


def rail(action: Action = Action.MASK, words: Sequence[str] = WORDS) -> Guardrail:
    return Guardrail("blocklist", [Words(words)], [*Side], action)


PII = Pii(kind="pii", region="US").rail()
ALL = [PII, rail(), rail(words=["joe", "email"])]


def cut(text: str, cuts: Sequence[int]) -> list[str]:
    places = sorted({0, len(text), *(place % (len(text) + 1) for place in cuts)})
    return [text[a:b] for a, b in pairwise(places)]


def streamed(rails: Sequence[Guardrail], pieces: Sequence[str]) -> list[str]:
    """What is given out after each piece, and at the end."""
    sieve = Sieve(rails)
    return [*(sieve.feed(piece) for piece in pieces), sieve.end()]


@given(texts | letters, st.lists(st.integers(0, 10_000), max_size=20))
@pytest.mark.parametrize("rails", [[rail()], [PII], ALL], ids=["words", "pii", "several"])
def test_any_cut_gives_what_the_whole_text_gives(rails: list[Guardrail], text: str, cuts: list[int]) -> None:
    assert "".join(streamed(rails, cut(text, cuts))) == sieved(rails, text)


@given(texts | letters)
def test_a_character_at_a_time_gives_what_the_whole_text_gives(text: str) -> None:
    assert "".join(streamed(ALL, list(text))) == sieved(ALL, text)


@given(letters)
def test_words_are_masked_as_a_plain_pattern_does(text: str) -> None:
    """The reference tries word after word, the longest first."""
    alternatives = "|".join(re.escape(w).replace(r"\ ", r"\s{1,3}") for w in sorted(WORDS, key=len, reverse=True))
    plain = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)
    assert sieved([rail()], text) == plain.sub("[BLOCKED]", text)


@given(texts | letters, st.lists(st.integers(0, 10_000), max_size=20))
def test_what_is_refused_never_begins_to_be_given_out(text: str, cuts: list[int]) -> None:
    """What has been given out is, at every moment, a beginning of the text that ends before the finding."""
    refusing, pieces = rail(Action.REFUSE), cut(text, cuts)
    first = next(rail().findings(text, 0), None)
    allowed = text if first is None else text[: first.start]
    sieve, given_out = Sieve([refusing]), ""
    try:
        for piece in pieces:
            given_out += sieve.feed(piece)
            assert allowed.startswith(given_out)
        given_out += sieve.end()
    except Refused as refused:
        assert first is not None
        given_out += refused.passed
    else:
        assert first is None
    assert given_out == allowed


@given(texts | letters, st.lists(st.integers(0, 10_000), max_size=20))
def test_what_passed_before_a_refusal_has_passed_the_other_rails_too(text: str, cuts: list[int]) -> None:
    rails = [rail(Action.REFUSE, ["badger"]), PII]

    def passed(pieces: Sequence[str]) -> str:
        sieve, given_out = Sieve(rails), ""
        try:
            for piece in pieces:
                given_out += sieve.feed(piece)
            return given_out + sieve.end()
        except Refused as refused:
            return given_out + refused.passed

    assert passed(cut(text, cuts)) == passed([text])


@pytest.mark.parametrize(
    ("rails", "held_at_most"), [([rail(words=["secret project"])], 17), ([PII], 5)], ids=["words", "pii"]
)
def test_prose_is_held_back_by_little(rails: list[Guardrail], held_at_most: int) -> None:
    prose = "It takes 12 days, he said, to get there; we had three. Then it rained for the rest of May and June."
    sieve, given_out = Sieve(rails), 0
    most = 0
    for place, character in enumerate(prose, 1):
        given_out += len(sieve.feed(character))
        if not character.isspace():
            most = max(most, place - given_out - len(re.split(r"[\s,;]", prose[:place])[-1]))
    assert most <= held_at_most


@pytest.mark.parametrize(
    ("entity", "text", "masked"),
    [
        (Entity.EMAIL, "Write to joe.doe+x@example.co.uk.", "Write to [EMAIL]."),
        (Entity.EMAIL, "a @ b, me@localhost", "a @ b, me@localhost"),
        (Entity.PHONE, "call +44 20 7946 0958 12 times", "call [PHONE] 12 times"),
        (Entity.PHONE, "or (212) 555-2368, not 20261125", "or [PHONE], not 20261125"),
        (Entity.IBAN, "to DE89 3704 0044 0532 0130 00 AND no other", "to [IBAN] AND no other"),
        (Entity.IBAN, "DE88370400440532013000", "DE88370400440532013000"),
        (Entity.CREDIT_CARD, "4111 1111 1111 1111, 4111-1111-1111-1111", "[CREDIT_CARD], [CREDIT_CARD]"),
        (Entity.CREDIT_CARD, "4111 1111 1111 1112", "4111 1111 1111 1112"),
        (Entity.IP, "10.0.0.1 and 2001:db8::1.", "[IP] and [IP]."),
        (Entity.IP, "at 12:30:45, v1.2.3.4, 300.1.1.1, std::vector", "at 12:30:45, v1.2.3.4, 300.1.1.1, std::vector"),
        (Entity.US_SSN, "536-90-4399 or 000-12-3456", "[US_SSN] or 000-12-3456"),
    ],
)
def test_an_entity_is_found_by_its_form_and_its_check(entity: Entity, text: str, masked: str) -> None:
    assert sieved([Pii(kind="pii", entities=(entity,), region="US").rail()], text) == masked


def test_telephone_numbers_without_a_plus_are_found_only_for_a_region() -> None:
    assert sieved([Pii(kind="pii", entities=(Entity.PHONE,)).rail()], "(212) 555-2368") == "(212) 555-2368"


@pytest.mark.parametrize("text", ["badly", "xbad", "bad_", "unbadger"])
def test_a_part_of_a_word_is_no_word(text: str) -> None:
    assert sieved([rail()], text) == text
