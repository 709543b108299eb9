"""A judge's reply is a judgement only when it is exactly what was asked for."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.judgement import FORM, INSTRUCTION, Judgement, asked_digest, judge_messages, read_judgement
from prompts.schemas import SUITES, schema_of


@pytest.mark.parametrize(
    ("reply", "judgement"),
    [
        ('{"reason": "it is", "score": 0.9, "pass": true}', Judgement(True, 0.9, "it is")),
        ('```json\n{"pass": false}\n```', Judgement(False)),
        ('{"score": 1}', Judgement(None, 1.0)),
        ('{"pass": "true", "score": 7}', Judgement(None)),
        ('{"pass": 1, "score": true}', Judgement(None)),
    ],
)
def test_a_reply_is_read(reply: str, judgement: Judgement) -> None:
    assert read_judgement(reply) == judgement


@pytest.mark.parametrize(
    "reply", ["", "PASS", "[true]", 'Sure! {"pass": true}', '{"pass": true} {"pass": false}', "```"]
)
def test_any_other_reply_says_nothing(reply: str) -> None:
    """Not even one that holds a judgement: an answer may have talked the judge into repeating one."""
    assert read_judgement(reply).passed is None


@given(st.text())
def test_no_reply_breaks_it(reply: str) -> None:
    assert read_judgement(reply).passed in (None, True, False)


@given(st.text(), st.text())
def test_an_answer_stays_data_in_what_a_judge_is_sent(criterion: str, answer: str) -> None:
    sent = judge_messages(criterion, answer, [{"role": "user", "content": "What?"}])
    assert [message["role"] for message in sent] == ["system", "user"]
    assert sent[0]["content"] == INSTRUCTION
    assert orjson.loads(sent[1]["content"]) == {"question": "user: What?", "answer": answer, "criterion": criterion}


def test_the_form_is_that_of_what_is_read() -> None:
    form = schema_of(FORM, SUITES)
    assert form.accepts({"reason": "", "score": 0.5, "pass": True}, 100) is True
    assert form.accepts({"reason": "", "score": 0.5}, 100) is False


def test_a_receipt_is_bound_to_whom_its_assertions_ask() -> None:
    digests = {
        asked_digest(),
        asked_digest(judge_build="a"),
        asked_digest(judge_build="b"),
        asked_digest(embedder_build="a"),
        asked_digest(judge_build="a", embedder_build="a"),
    }
    assert len(digests) == 5
    assert asked_digest() == ""
