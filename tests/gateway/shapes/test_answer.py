import orjson
import pytest
from hypothesis import given

from gateway.shapes.answer import Answer, Closed, Grew, Kind, Opened, as_chunk, usage_of
from models.engine import Usage
from tests.gateway.shapes.answers import Document, anything, call, chunk, completion


def spoken(*chunks: Document) -> Answer:
    """The answer, after checking that its blocks are opened, grown and closed one after the other."""
    answer = Answer("1")
    open_place = None
    count = 0
    for step in [*(step for c in chunks for step in answer.feed(c)), *answer.end()]:
        match step:
            case Opened(block):
                assert open_place is None
                open_place = block.place
                assert open_place == count
                count += 1
            case Grew(block, _, _):
                assert block.place == open_place
            case Closed(block):
                assert block.place == open_place
                open_place = None
    assert open_place is None
    assert count == len(answer.blocks)
    return answer


def test_kinds_that_alternate_make_a_block_each() -> None:
    answer = spoken(chunk(reasoning="a"), chunk(content="b"), chunk(reasoning_content="c"), chunk(content="d"))
    assert [(b.kind, b.text) for b in answer.blocks] == [
        (Kind.REASONING, "a"),
        (Kind.TEXT, "b"),
        (Kind.REASONING, "c"),
        (Kind.TEXT, "d"),
    ]


def test_what_is_not_of_the_open_call_waits_for_its_end() -> None:
    answer = spoken(
        chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]),
        chunk(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]),
        chunk(content="so"),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        chunk("tool_calls"),
    )
    assert [(b.id, b.name, b.text) for b in answer.blocks] == [("a", "f", '{"x":1}'), ("b", "g", "{}"), ("", "", "so")]


SEVERAL = {
    "with their places": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}],
    "without an index": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
    "with an object for arguments": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {}}}],
}


@pytest.mark.parametrize("calls", SEVERAL.values(), ids=SEVERAL)
def test_reads_calls_as_servers_vary_in_writing_them(calls: list[Document]) -> None:
    (block,) = spoken(chunk(tool_calls=calls), chunk("tool_calls")).blocks
    assert (block.id, block.name, block.text) == ("a", "f", "{}")


def test_a_name_and_an_id_that_are_repeated_count_once() -> None:
    again = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}}
    (block,) = spoken(chunk(tool_calls=[again]), chunk(tool_calls=[again])).blocks
    assert (block.id, block.name, block.text) == ("a", "f", "11")


def test_a_name_that_comes_late_opens_the_call_with_what_it_has() -> None:
    (block,) = spoken(
        chunk(tool_calls=[{"index": 0, "id": "a"}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
        chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "}"}}]),
    ).blocks
    assert (block.id, block.name, block.text) == ("a", "f", "{}")


@pytest.mark.parametrize("ids", [("", ""), ("same", "same")])
def test_every_call_has_an_id_of_its_own(ids: tuple[str, str]) -> None:
    whole = completion("tool_calls", content=None, tool_calls=[call(id, "f", "{}") for id in ids])
    first, second = spoken(as_chunk(whole)).blocks
    assert first.id
    assert second.id
    assert first.id != second.id


def test_an_answer_of_nothing_has_one_empty_text() -> None:
    (block,) = spoken(chunk(role="assistant", content=""), chunk("stop")).blocks
    assert (block.kind, block.text, block.whole) == (Kind.TEXT, "", True)


def test_only_the_last_block_of_an_answer_cut_short_is_not_whole() -> None:
    blocks = spoken(chunk(reasoning="a"), chunk(content="b"), chunk("length")).blocks
    assert [block.whole for block in blocks] == [True, False]


def test_reads_the_counts_or_says_that_there_are_none() -> None:
    assert usage_of(completion()) == Usage(30, 12, 10, 5)
    assert usage_of({**completion(), "usage": {"prompt_tokens": 3, "completion_tokens": 4}}) == Usage(3, 4)
    assert usage_of({**completion(), "usage": {"prompt_tokens": 3}}) is None
    assert usage_of({}) is None


@given(anything)
def test_whatever_an_engine_sends_is_read_or_passed_over(junk: object) -> None:
    for delta in (junk, {"content": junk}, {"tool_calls": junk}, {"tool_calls": [junk]}):
        spoken({"choices": [{"delta": delta, "finish_reason": junk, "logprobs": junk}]})
    spoken({"choices": junk}, as_chunk({"choices": junk}), as_chunk({"choices": [{"message": junk}]}))
    usage_of({"usage": junk})
    for made in ({"index": junk, "id": junk, "function": junk}, {"function": {"name": junk, "arguments": junk}}):
        orjson.dumps([block.text for block in spoken(chunk(tool_calls=[made])).blocks])
