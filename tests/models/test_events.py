import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.events import documents_of, events_of, read, written

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | texts | st.just("data: \n\ndata: {}\r\n\r\n"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)
documents = st.lists(st.dictionaries(texts, values, max_size=3), max_size=5)


@given(documents)
def test_a_block_says_what_was_written_whatever_the_texts_hold(said: list[dict[str, Any]]) -> None:
    block = b"".join(map(written, said))
    assert documents_of(block) == said
    assert b"".join(events_of(block)) == block
    assert [read(event) for event in events_of(block)] == said


def test_an_event_is_one_line_of_data_and_an_empty_one() -> None:
    event = written({"text": "a\nb\n\nc"})
    prefix, rest = event[:6], event[6:]
    assert prefix == b"data: "
    assert rest.endswith(b"\n\n")
    assert rest.count(b"\n") == 2
    assert json.loads(rest) == {"text": "a\nb\n\nc"}
