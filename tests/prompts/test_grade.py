"""Each grader's table, and that no answer of a model can break a grader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.grade import GRADERS, exact, final_answer, grader, number, one_of, python_literal

HEADLINES = ("up", "down", "neutral", "none")
answers = st.text(max_size=60) | st.lists(
    st.sampled_from(
        ["Answer:", "answer :", "12", "-", ",", ".", "1e9", "٣", "[", "(", "'", '"', "{1:", "`", "\n", "\0"]
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 42", "42"),
        ("answer : 42 ", "42"),
        ("ANSWER:\n42", "42"),
        ("Answer: 1\nNo, wait. Answer: 2", "2"),
        ("just 42", "just 42"),
        ("Answer:", ""),
        ("", ""),
    ],
)
def test_final_answer_follows_the_last_mark(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "expected", "right"),
    [
        ("42", "42", True),
        ("The answer is 42.", "42", True),
        ("3 apples and 4 pears make 7", "7", True),
        ("It is 7, not 8", "7", False),
        ("$1,234.50", "1234.5", True),
        ("1234.0", "1,234", True),
        ("1,000,000", "1000000", True),
        ("-5", "-5", True),
        ("-5", "5", False),
        ("0.1", "0.1", True),
        ("0.10001", "0.1", False),
        ("42%", "42", True),
        ("", "42", False),
        ("forty-two", "42", False),
        ("9" * 400, "9", False),
    ],
)
def test_number_compares_the_last_number(text: str, expected: str, right: bool) -> None:
    assert number(text, expected) is right


@pytest.mark.parametrize(
    ("text", "expected", "right"),
    [
        ("Answer: yes", "Yes", True),
        ("Answer: **Yes.**", "yes", True),
        ("I think so. Answer:  new   york", "New York", True),
        ("yes", "yes", True),
        ("Answer: yes, surely", "yes", False),
        ("Answer: no", "yes", False),
        ("Answer:", "yes", False),
        ("Answer: (B)", "B", True),
    ],
)
def test_exact_folds_case_punctuation_and_spacing(text: str, expected: str, right: bool) -> None:
    assert exact(text, expected) is right


@pytest.mark.parametrize(
    ("text", "expected", "right"),
    [
        ("Answer: [1, 2]", "[1,2]", True),
        ("Answer: `[1, 2]`", "[1, 2]", True),
        ("Answer: {'a': 1, 'b': 2}", "{'b': 2, 'a': 1}", True),
        ('Answer: "x"', "'x'", True),
        ("Answer: 'x'\nbecause it is", "'x'", True),
        ("Answer: x", "'x'", False),
        ("Answer: [2, 1]", "[1, 2]", False),
        ("Answer: __import__('os')", "1", False),
        ("Answer: [1, 2", "[1, 2]", False),
        ("Answer: {[]: 1}", "{}", False),
        ("Answer: a\0b", "'a'", False),
        ("Answer:", "''", False),
        ("", "''", False),
        ("Answer: " + "(" * 5000, "()", False),
        ("Answer: " + "-" * 5000 + "1", "1", False),
        ("Answer: " + "9" * 5000, "9", False),
    ],
)
def test_python_literal_compares_values(text: str, expected: str, right: bool) -> None:
    assert python_literal(text, expected) is right


@pytest.mark.parametrize(
    ("text", "expected", "right"),
    [
        ("up", "up", True),
        ("The price goes UP.", "up", True),
        ("up, not down", "up", True),
        ("not down but up", "up", False),
        ("the upper end is neutral", "neutral", True),
        ("sideways", "none", False),
        ("", "none", False),
    ],
)
def test_one_of_takes_the_first_listed_word(text: str, expected: str, right: bool) -> None:
    assert one_of(HEADLINES)(text, expected) is right


def test_one_of_reads_its_words_as_text_not_as_a_pattern() -> None:
    assert one_of(("a.c", "abc"))("abc", "abc")


@pytest.mark.parametrize("name", GRADERS)
def test_each_grader_goes_by_its_name(name: str) -> None:
    assert grader(name) is GRADERS[name]


def test_a_grader_of_words_is_made_from_its_name() -> None:
    assert grader("one_of:up,down")("it goes down", "down")


@pytest.mark.parametrize("name", ["", "Number", "one_of", "judge"])
def test_an_unknown_grader_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown grader .*number, exact, python_literal, one_of"):
        grader(name)


@pytest.mark.parametrize("name", ["one_of:", "one_of:up,,down", "one_of:up,"])
def test_an_empty_word_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="empty word"):
        grader(name)


@pytest.mark.parametrize(("name", "expected"), [(name, "3") for name in GRADERS] + [("one_of:up,down", "up")])
@given(text=answers)
def test_no_answer_breaks_a_grader(name: str, expected: str, text: str) -> None:
    assert grader(name)(text, expected) in (True, False)


@given(st.decimals(min_value=-(10**6), max_value=10**6, places=2, allow_nan=False), answers)
def test_number_knows_every_number_however_it_is_written(value: object, before: str) -> None:
    assert number(f"{before} so it is {value:,}", str(value))
    assert number(f"{before} so it is {value}.", f"{value:,}")


@given(
    st.recursive(
        st.integers() | st.text() | st.booleans() | st.none(), lambda inner: st.lists(inner) | st.tuples(inner)
    )
)
def test_python_literal_knows_every_value_as_python_writes_it(value: object) -> None:
    assert python_literal(f"Answer: {value!r}", repr(value))
