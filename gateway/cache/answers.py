"""One answer in both its forms: put together from the events of a stream, and told as one. Pure; knows no cache."""

from collections.abc import Iterable, Sequence
from typing import Any

from models.engine import Operation, Usage
from models.events import documents_of, written

Document = dict[str, Any]
TEXTS = frozenset({"content", "reasoning", "reasoning_content", "refusal"})  # of a delta, told piece by piece
KINDS = {Operation.CHAT: ("chat.completion", "chat.completion.chunk"), Operation.COMPLETION: ("text_completion",) * 2}


class Strange(ValueError):
    """The stream holds what we cannot put together."""


def assembled(blocks: Iterable[bytes], operation: Operation, usage: Usage) -> Document:
    """The answer that *blocks* of events told, as the engine would have given it whole. Raises Strange."""
    events = [event for block in blocks for event in documents_of(block)]
    told = [event for event in events if event.get("choices")]
    counts = [event["usage"] for event in events if isinstance(event.get("usage"), dict)]
    if not told:
        raise Strange("no event has a choice")
    merge = _merge_chat if operation is Operation.CHAT else _merge_text
    choices: dict[int, Document] = {}
    for event in told:
        for piece in event["choices"]:
            merge(choices.setdefault(piece.get("index") or 0, {}), piece)
    document = {**told[0], "object": KINDS[operation][0], "choices": [choices[index] for index in sorted(choices)]}
    document["usage"] = counts[-1] if counts else written_usage(usage)
    return document


def told(document: Document, operation: Operation, *, include_usage: bool) -> Sequence[bytes]:
    """*document* as the blocks of a stream: what was said, why it ended, and the counts where they are asked for."""
    chat = operation is Operation.CHAT
    frame = {key: value for key, value in document.items() if key != "usage"} | {"object": KINDS[operation][1]}
    saying, ending = [], []
    for place, choice in enumerate(document["choices"]):
        index = choice.get("index", place)
        nothing: Document = {"delta": {}} if chat else {"text": ""}
        said = {"delta": _delta(choice["message"])} if chat else {"text": choice["text"]}
        saying.append({"index": index, **said, "logprobs": choice.get("logprobs"), "finish_reason": None})
        why = {name: value for name, value in choice.items() if name not in ("message", "logprobs")}
        ending.append({**why, "index": index, **nothing, "logprobs": None})
    events = [{**frame, "choices": saying}, {**frame, "choices": ending}]
    if include_usage:
        events.append({**frame, "choices": [], "usage": document["usage"]})
    return [written(event) for event in events]


def written_usage(usage: Usage) -> Document:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _merge_chat(choice: Document, piece: Document) -> None:
    delta = piece.get("delta") or {}
    message: Document = choice.setdefault("message", {"role": "assistant", "content": None})
    for name, value in delta.items():
        if value is None or name == "role":
            continue
        if name in TEXTS and isinstance(value, str):
            message[name] = (message.get(name) or "") + value
        elif name == "tool_calls" and isinstance(value, list):
            _merge_calls(message.setdefault(name, []), value)
        else:
            raise Strange(f"a delta has {name!r}")
    _merge_rest(choice, piece)


def _merge_text(choice: Document, piece: Document) -> None:
    choice["text"] = choice.get("text", "") + (piece.get("text") or "")
    _merge_rest(choice, piece)


def _merge_rest(choice: Document, piece: Document) -> None:
    choice.setdefault("finish_reason", None)
    choice.setdefault("logprobs", None)
    for name, value in piece.items():
        if name == "logprobs" and isinstance(value, dict):
            choice[name] = _joined(choice[name] or {}, value)
        elif name not in ("delta", "text", "logprobs") and value is not None:
            choice[name] = value


def _joined(before: Document, after: Document) -> Document:
    """Lists of logprobs, one after the other."""
    joined = dict(before)
    for name, value in after.items():
        earlier = before.get(name)
        joined[name] = [*earlier, *value] if isinstance(earlier, list) and isinstance(value, list) else value or earlier
    return joined


def _merge_calls(calls: list[Document], pieces: list[Document]) -> None:
    for piece in pieces:
        index = piece.get("index")
        if not isinstance(index, int) or not 0 <= index <= len(calls):
            raise Strange("calls of tools do not come one after the other")
        if index == len(calls):
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[index], piece.get("function") or {}
        call["id"] = call["id"] or piece.get("id") or ""
        call["type"] = piece.get("type") or call["type"]
        call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _delta(message: Document) -> Document:
    """A whole message as one delta: calls are told apart by their place."""
    delta = {name: value for name, value in message.items() if value is not None}
    if isinstance(delta.get("tool_calls"), list):
        delta["tool_calls"] = [{**call, "index": place} for place, call in enumerate(delta["tool_calls"])]
    return delta
