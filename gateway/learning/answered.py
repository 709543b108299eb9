"""What an answer says, read off its blocks once it is whole. Pure; knows OpenAI's chat completions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.cache.answers import Strange, assembled
from models.engine import Operation, Usage

JSON_FORMATS = frozenset({"json_object", "json_schema"})
NOT_COUNTED = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Said:
    """`text` is None where the answer is no text alone: calls of tools, a refusal in a field of its own, several
    choices. `is_whole`: it came to its own end.
    """

    text: str | None
    is_whole: bool


def said(blocks: Sequence[bytes], *, streamed: bool) -> Said | None:
    """None for what cannot be read."""
    try:
        document = assembled(blocks, Operation.CHAT, NOT_COUNTED) if streamed else orjson.loads(blocks[0])
        [choice] = document["choices"]
        message = choice["message"]
        is_text = isinstance(message.get("content"), str) and not any(
            message.get(name) for name in ("tool_calls", "function_call", "refusal", "audio")
        )
        return Said(message["content"] if is_text else None, choice.get("finish_reason") == "stop")
    except (Strange, ValueError, LookupError, TypeError, AttributeError):
        return None


def wants_json(body: Mapping[str, Any]) -> bool:
    asked = body.get("response_format")
    return isinstance(asked, dict) and asked.get("type") in JSON_FORMATS
