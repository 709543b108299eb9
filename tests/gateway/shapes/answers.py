"""Chat completions for the tests of the shapes: whole, and as chunks cut anywhere; and events read back."""

from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
from hypothesis import strategies as st

Document = dict[str, Any]

USAGE: Document = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 5},
}

words = st.text(min_size=1, max_size=12)
arguments = st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5) | st.none(), max_size=3)


def completion(finish: str = "stop", **message: Any) -> Document:
    """A whole chat.completion with that message."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}],
        "usage": USAGE,
    }


def call(id: str, name: str, arguments: str) -> Document:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chunk(finish: str | None = None, logprobs: Any = None, **delta: Any) -> Document:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}],
    }


@dataclass(frozen=True, slots=True)
class Said:
    """The same answer twice: whole, and as a server would stream it."""

    whole: Document
    chunks: list[Document]


@st.composite
def answers(draw: st.DrawFn) -> Said:
    """Reasoning, text, a refusal and calls, each there or not; the calls' arguments cut and written in turns."""
    key = draw(st.sampled_from(["reasoning", "reasoning_content"]))
    texts = {key: draw(st.text(max_size=20)), "content": draw(st.text(max_size=20))}
    if draw(st.integers(0, 4)) == 0:
        texts["refusal"] = draw(words)
    ids = draw(st.lists(st.uuids().map(lambda id: f"call_{id.hex[:8]}"), max_size=3, unique=True))
    calls = [call(id, f"f{n}", orjson.dumps(draw(arguments)).decode()) for n, id in enumerate(ids)]
    finish = draw(st.sampled_from(["stop", "length", "content_filter", "tool_calls" if calls else "stop"]))
    chunks = [chunk(role="assistant", content="")]
    for name, text in texts.items():
        chunks += [chunk(**{name: piece}) for piece in _cut(draw, text)]
    chunks += _in_turns(draw, calls)
    chunks += [chunk(finish), {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}]
    message: Document = {**texts, "content": texts["content"] or None, "tool_calls": calls}
    return Said(completion(finish, **message), chunks)


def _cut(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def _in_turns(draw: st.DrawFn, calls: list[Document]) -> list[Document]:
    """Each call's head before its pieces and before the next one's head; sometimes several to a chunk."""
    queues = []
    for index, whole in enumerate(calls):
        head = {**whole, "index": index, "function": {"name": whole["function"]["name"], "arguments": ""}}
        pieces = _cut(draw, whole["function"]["arguments"])
        queues.append([head, *({"index": index, "function": {"arguments": piece}} for piece in pieces)])
    begun, chunks = 0, []
    while any(queues):
        ready = [n for n, queue in enumerate(queues) if queue and n <= begun]
        turn = draw(st.lists(st.sampled_from(ready), min_size=1, max_size=2))
        deltas = [queues[n].pop(0) for n in turn if queues[n]]
        begun = max([begun, *(n + 1 for n in turn)])
        chunks.append(chunk(tool_calls=deltas))
    return chunks


def events(raw: bytes) -> list[Document]:
    """The data of an event stream, after checking that each event is named by its type."""
    *blocks, end = raw.decode().split("\n\n")
    assert end == ""
    read = []
    for block in blocks:
        name, data = block.split("\n")
        document = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {document['type']}"
        read.append(document)
    return read


def answering(content: bytes, *, streamed: bool) -> httpx2.Client:
    """An HTTP client to whom everything is answered with *content*."""
    media_type = "text/event-stream" if streamed else "application/json"
    return httpx2.Client(
        transport=httpx2.MockTransport(
            lambda request: httpx2.Response(200, content=content, headers={"content-type": media_type})
        )
    )


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**63) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, bodies: list[Document]) -> Document:
    """One of *bodies* with junk at one or two places, each at any depth."""
    body = orjson.loads(orjson.dumps(draw(st.sampled_from(bodies))))
    for _ in range(draw(st.integers(1, 2))):
        holder: Any = body
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = draw(st.sampled_from(keys))
            inner = holder[key]
            if not (isinstance(inner, dict | list) and inner and draw(st.booleans())):
                break
            holder = inner
        if isinstance(holder, dict) and draw(st.booleans()) and len(holder) > 1:
            del holder[key]
        else:
            holder[key] = draw(anything)
    assert isinstance(body, dict)
    return body


def check_chat(body: Document, *, may_be_empty: bool = False) -> None:
    """What every engine relies on in a chat-completions body."""
    assert body["messages"] or may_be_empty
    waiting: set[str] = set()
    for message in body["messages"]:
        assert message["role"] in {"system", "developer", "user", "assistant", "tool"}
        content = message["content"]
        if isinstance(content, list):
            assert content
            assert all(part["type"] in {"text", "image_url", "input_audio"} for part in content)
        else:
            assert isinstance(content, str) or (content is None and message["tool_calls"])
        for said in message.get("tool_calls", []):
            assert said["type"] == "function"
            assert isinstance(said["function"]["name"], str)
            assert isinstance(said["function"]["arguments"], str)
            waiting.add(said["id"])
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
    for tool in body.get("tools", []):
        assert isinstance(tool["function"]["name"], str)
    orjson.dumps(body)
