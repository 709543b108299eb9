"""An answer behind guardrails: however it is cut into events, the client reads what the whole text gives."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails.blocklist import Words
from gateway.guardrails.rail import Action, Guardrail, Side
from gateway.guardrails.reply import Guarded
from gateway.guardrails.sieve import sieved
from models.engine import EngineCut, Usage
from tests.gateway.guardrails.replies import Written, blocks_of, delta, documents_of, event, finishes, said

pytestmark = pytest.mark.anyio

MASKING = Guardrail("blocklist", [Words(["secret", "top secret"])], [*Side], Action.MASK)
REFUSING = Guardrail("blocklist", [Words(["secret", "top secret"])], [*Side], Action.REFUSE)
pieces = st.lists(st.sampled_from(["", "top", " ", "sec", "ret", "secret", "x", ".", "top secret"]), max_size=12)
USAGE = Usage(3, 4)
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def streamed(reply: Written, rail: Guardrail = MASKING, choices: int = 1) -> Guarded:
    return Guarded(reply, [rail], streamed=True, choices=choices)


def talk(texts: Sequence[str], finish: str | None = "stop") -> list[bytes]:
    return [event(delta(role="assistant", content="")), *(event(delta(content=t)) for t in texts), event(delta(finish))]


@given(pieces, st.integers(1, 4), st.sampled_from(["stop", None]))
async def test_however_it_is_cut_it_reads_as_the_whole_does(
    texts: list[str], together: int, finish: str | None
) -> None:
    events = talk(texts, finish)
    blocks = [b"".join(events[place : place + together]) for place in range(0, len(events), together)]
    seen = await blocks_of(streamed(Written(blocks)))
    assert said(seen) == sieved([MASKING], "".join(texts))
    assert finishes(seen) == ([finish] if finish else [])


@given(pieces)
async def test_of_a_refused_answer_no_word_begins(texts: list[str]) -> None:
    text = "".join(texts)
    first = next(REFUSING.findings(text, 0), None)
    reply = Written([*talk(texts), event(delta(content="after the end"))])
    seen = await blocks_of(streamed(reply, REFUSING))
    if first is None:
        return
    assert said(seen) == text[: first.start]
    assert finishes(seen) == ["content_filter"]


async def test_a_refused_stream_stops_the_engine_and_says_nothing_more() -> None:
    reply = Written([*talk(["the ", "secret ", "is"]), event(usage={}), event(delta(content="more"))])
    guarded = streamed(reply, REFUSING)
    seen = await blocks_of(guarded)
    assert reply.left > 0, "it was not read to its end"
    await guarded.close()
    assert reply.stopped
    assert documents_of(seen)[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_the_word_that_ends_an_answer_is_seen_before_the_counts() -> None:
    seen = await blocks_of(streamed(Written([*talk(["no secret"], None), event(usage={"total_tokens": 1})])))
    assert said(seen) == "no [BLOCKED]"
    assert documents_of(seen)[-1]["usage"] == {"total_tokens": 1}


async def test_answers_to_one_request_are_looked_at_each_by_itself() -> None:
    blocks = [
        event(delta(content="top "), delta(index=1, content="sec")),
        event(delta(content="hat", index=1), delta(content="secret")),
        event(delta("stop")),
        event(delta("stop", index=1)),
    ]
    seen = await blocks_of(streamed(Written(blocks), choices=2))
    assert (said(seen), said(seen, index=1)) == ("[BLOCKED]", "sechat")


async def test_one_refused_answer_ends_and_the_other_goes_on() -> None:
    blocks = [
        event(delta(content="secret "), delta(index=1, content="fine ")),
        event(delta(content="x"), delta(index=1, content="too")),
        event(delta("stop", index=1)),
    ]
    seen = await blocks_of(streamed(Written(blocks), REFUSING, choices=2))
    assert (said(seen), finishes(seen)) == ("", ["content_filter"])
    assert (said(seen, index=1), finishes(seen, index=1)) == ("fine too", ["stop"])


async def test_reasoning_is_looked_at_and_comes_whole_before_the_text() -> None:
    blocks = talk([], None)[:1]
    blocks += [event(delta(reasoning_content="a top")), event(delta(content="it ")), event(delta("stop", content="is"))]
    seen = await blocks_of(streamed(Written(blocks)))
    assert (said(seen, "reasoning_content"), said(seen)) == ("a top", "it is")
    deltas = [document["choices"][0]["delta"] for document in documents_of(seen)]
    first_text = next(place for place, said in enumerate(deltas) if said.get("content"))
    assert not any(said.get("reasoning_content") for said in deltas[first_text + 1 :])


async def test_calls_of_tools_pass_as_they_are_after_the_text_before_them() -> None:
    blocks = [event(delta(content="look: top")), event(delta(tool_calls=[CALL])), event(delta("tool_calls"))]
    seen = await blocks_of(streamed(Written(blocks)))
    assert said(seen) == "look: top"
    documents = documents_of(seen)
    assert [c for d in documents for c in d["choices"][0]["delta"].get("tool_calls", ())] == [CALL]
    assert finishes(seen) == ["tool_calls"]


async def test_logprobs_do_not_spell_out_what_is_masked() -> None:
    spelled = {"content": [{"token": "secret", "logprob": -1}]}
    stream = await blocks_of(streamed(Written([event({**delta("stop", content="secret"), "logprobs": spelled})])))
    whole = Guarded(Written([whole_answer("secret", logprobs=spelled)]), [MASKING], streamed=False, choices=1)
    assert b"secret" not in b"".join(stream) + whole.first


async def test_a_text_completion_is_looked_at_too() -> None:
    blocks = [event({"index": 0, "text": t, "finish_reason": None}) for t in ["a sec", "ret b"]]
    seen = await blocks_of(streamed(Written([*blocks, event({"index": 0, "text": "", "finish_reason": "stop"})])))
    assert (said(seen, "text"), finishes(seen)) == ("a [BLOCKED] b", ["stop"])
    seen = await blocks_of(streamed(Written(blocks)))
    assert said(seen, "text") == "a [BLOCKED] b"


async def test_what_is_held_back_when_the_engine_breaks_off_is_not_given_out() -> None:
    guarded = streamed(Written(talk(["hey top"])[:2], USAGE, cut=True))
    seen = [guarded.first, await guarded.more()]
    with pytest.raises(EngineCut):
        await guarded.more()
    assert said(seen) == "hey"
    assert guarded.usage == USAGE


def whole_answer(text: str, **choice: Any) -> bytes:
    message = {"role": "assistant", "content": text, "tool_calls": [CALL]}
    return orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]})


async def test_a_whole_answer_is_masked_or_refused_without_any_of_it() -> None:
    def seen(rail: Guardrail) -> Any:
        return orjson.loads(Guarded(Written([whole_answer("a secret")]), [rail], streamed=False, choices=1).first)

    [masked], [refused] = seen(MASKING)["choices"], seen(REFUSING)["choices"]
    assert (masked["message"]["content"], masked["finish_reason"]) == ("a [BLOCKED]", "stop")
    assert masked["message"]["tool_calls"] == [CALL]
    assert (refused["message"], refused["finish_reason"]) == ({"role": "assistant", "content": ""}, "content_filter")
