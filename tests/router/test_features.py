"""Features can be read off any text, always the same, and only so much of it is looked at."""

import re
from math import isfinite, log1p
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router import features as module
from router.features import FEATURES, OPTION, Seen, features
from router.looks import LIMIT_CHARACTERS, looks
from router.words import places

text = st.text(st.characters(exclude_categories=["Cs"]))
PATTERNS = {name: value for name, value in vars(module).items() if isinstance(value, re.Pattern)}
OPTION_OVER_LINES = re.compile(r"(?m)^\s*(?:\([A-Z]\)|[A-Z][.)]|-)\s")  # what OPTION says, in quadratic time


def _of(varying: str, fixed: str | None = None) -> dict[str, float]:
    messages = [{"role": "user", "content": varying}]
    if fixed is not None:
        messages.insert(0, {"role": "system", "content": fixed})
    return dict(zip(FEATURES, looks({"messages": messages}).features, strict=True))


@pytest.mark.parametrize(
    ("name", "varying", "value"),
    [
        ("log_characters", "abcd", log1p(4)),
        ("log_words", "Don't count 42 as one", log1p(4)),
        ("word_length", "a bcd", 2.0),
        ("distinct_words", "The cat saw the dog", 4 / 5),
        ("log_lines", "one\ntwo\nthree", log1p(2)),
        ("log_sentences", "One. Two! Pi is 3.14?", log1p(3)),
        ("log_numbers", "1,234.5 and 7 and x2", log1p(3)),
        ("digits", "a1b2", 0.5),
        ("log_operators", "1 + 2 = 3", log1p(2)),
        ("parentheses", "f(x[0])", log1p(2)),
        ("options", "Which?\n(A) one\n  B) two\n- three\nA (B) in a line", log1p(3)),
        ("questions", "Why? How?", log1p(2)),
        ("code", "def f(x):\n    return {};\n", log1p(3)),
        ("quotes", "'a' and \"b\"", log1p(4)),
        ("capitals", "AbCd", 0.5),
        ("negations", "never say no again", 2 / 4),
        ("conditions", "if it rains then stop", 2 / 5),
        ("quantities", "half as many", 2 / 3),
        ("long_words", "extraordinary words", 1 / 2),
        ("choices", "Which?\nA) one\n(B) two\nC: three\n- four", log1p(3)),
        ("choice_length", "Which?\nA) abc\nB) abcdefg", (log1p(3) + log1p(7)) / 2),
        ("choice_spread", "Which?\nA) abc\nB) abcdefg", log1p(7) - log1p(3)),
        ("choice_numbers", "Which?\nA) 12 cm\nB) $3\nC) long\nD) 1,000", 3 / 4),
        ("choice_number_spread", "Which?\nA) 1\nB) 3", log1p(1)),
        ("choice_catch_all", "Which?\nA) 1\nB) None of the above", 1.0),
        ("log_question", "Which?\nA) one\nB) two", log1p(6)),
        ("log_last", "It rains. Why is that?", log1p(len(" Why is that"))),
        ("log_largest", "7, 1,234.5 and 12", log1p(1234.5)),
        ("not_whole", "1.5 and 2", 1.0),
        ("log_over_100", "99, 100, 101 and 2,000", log1p(2)),
        ("dollars", "$3 or $4", log1p(2)),
        ("cents", "It is $3.50.", 1.0),
        ("asks_money", "He has 3. What does it cost?", 1.0),
        ("asks_money", "It costs 3. How many are there?", 0.0),
        ("percents", "10% of 20%", log1p(2)),
        ("blank", "He said __ to her", 1.0),
        ("backslashes", r"\\frac{1}{2}", log1p(2)),
        ("statements", "Statement I. Statement II.", 1.0),
        ("colon", "The answer is:", 1.0),
        ("says_time", "two hours and a day", log1p(2)),
        ("says_law", "The court heard the jury", log1p(2)),
    ],
)
def test_each_is_what_its_name_says(name: str, varying: str, value: float) -> None:
    assert _of(varying)[name] == pytest.approx(value)
    assert _of("")[name] == 0


@pytest.mark.parametrize(
    ("name", "fixed", "value"),
    [
        ("fixed_log_characters", "Be brief.", log1p(9)),
        ("fixed_short_answer", "Answer yes or no.", 1.0),
        ("fixed_short_answer", "Say ONLY the number", 1.0),
        ("fixed_short_answer", "It is lonely here", 0.0),
    ],
)
def test_the_fixed_part_is_read_too(name: str, fixed: str, value: float) -> None:
    assert _of("question", fixed)[name] == pytest.approx(value)
    assert _of("question")[name] == 0


@given(varying=text, fixed=st.none() | text)
@example(varying="", fixed="")
@example(varying="\x00\x1c\u2028\u0085", fixed="\ufeff")
@example(varying="Ⅷ²٣ǅ", fixed="Ω٤")  # digits and capitals that are neither 0 to 9 nor A to Z
def test_any_text_has_finite_features_and_always_the_same(varying: str, fixed: str | None) -> None:
    values = _of(varying, fixed)

    assert len(values) == len(FEATURES) == len(features(varying, fixed or ""))
    assert all(isinstance(value, float) and isfinite(value) and value >= 0 for value in values.values())
    assert _of(varying, fixed) == values


@pytest.mark.parametrize(
    "content",
    [None, 7, {}, [], [None], ["text"], [{"type": "image_url", "image_url": {"url": "data:"}}], [{"text": 3}]],
)
def test_content_without_text_is_an_empty_text(content: Any) -> None:
    assert looks({"messages": [{"role": "user", "content": content}]}) == looks({"messages": []})


def test_the_parts_of_a_content_are_read_as_one_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]

    assert looks({"messages": [{"role": "user", "content": parts}]}).features == tuple(_of("one\ntwo").values())


def test_only_the_end_of_a_long_text_is_looked_at() -> None:
    """The question stands at the end of a prompt, after what it is about."""
    end = ("Who was it? (A) 12 'no' if {x};\n" * LIMIT_CHARACTERS)[-LIMIT_CHARACTERS:]

    assert looks({"messages": [{"role": "user", "content": "z" * 100_000 + end}]}).words == places(end)
    assert _of("z" * 100_000 + end) == _of(end)
    assert _of("z" + end[1:]) != _of(end)


def test_only_the_beginning_of_a_long_fixed_part_is_looked_at() -> None:
    beginning = "x" * LIMIT_CHARACTERS

    assert _of("", beginning + " answer yes or no") == _of("", beginning)


@pytest.mark.parametrize(
    "unit",
    ["\n", " ", "\t\n", "{", "{ ", "}\n", "def ", "def f", "1,", "1.", "a'", "A)", "(A)", "- ", "```", "one ", "ß"],
)
def test_a_repeated_character_ends_in_time(unit: str) -> None:
    """What makes a pattern explode; a hang is ended by the suite's time limit, so nothing is timed here."""
    long = unit * 100_000
    values = _of(long, long)

    assert all(map(isfinite, values.values()))
    assert values == _of(long[-LIMIT_CHARACTERS:], long[:LIMIT_CHARACTERS])


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_begins_with_a_run_that_crosses_lines(name: str) -> None:
    r"""`^\s*` took 2.7 seconds for 16,384 empty lines: from each of them it read to the end."""
    assert not re.search(r"\^\\s[*+]", PATTERNS[name].pattern)


@given(text=st.text(st.sampled_from("\n\n\r\t  A(B)-.x\u2028"), max_size=40))
def test_options_are_found_as_if_the_space_before_them_might_cross_lines(text: str) -> None:
    assert len(OPTION.findall(text)) == len(OPTION_OVER_LINES.findall(text))


@given(text)
def test_a_question_is_the_beginning_of_its_text(varying: str) -> None:
    seen = Seen(varying, "")

    assert varying.startswith(seen.question)
    assert seen.last in seen.question
