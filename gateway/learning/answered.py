"""What an answer says, read off its blocks once it is whole. Pure; knows OpenAI's chat completions."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gateway.cache.answers import Strange, assembled
from models.engine import Operation, Usage

NOT_COUNTED = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Said:
    """`text` is None where the answer is no text alone: calls of tools, a refusal in a field of its own, several
    choices. `is_whole`: it came to its own end. `calls` of functions, each its name and its arguments as written.
    """

    text: str | None
    is_whole: bool
    calls: Sequence[tuple[str, str]] = ()


def said(blocks: Sequence[bytes], *, streamed: bool) -> Said | None:
    """None for what cannot be read."""
    try:
        document = assembled(blocks, Operation.CHAT, NOT_COUNTED) if streamed else orjson.loads(blocks[0])
        [choice] = document["choices"]
        message = choice["message"]
        is_text = isinstance(message.get("content"), str) and not any(
            message.get(name) for name in ("tool_calls", "function_call", "refusal", "audio")
        )
        functions = [call["function"] for call in message.get("tool_calls") or () if "function" in call]
        calls = [(function["name"], function["arguments"]) for function in functions]
        return Said(message["content"] if is_text else None, choice.get("finish_reason") == "stop", calls)
    except (Strange, ValueError, LookupError, TypeError, AttributeError):
        return None
