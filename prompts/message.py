"""Messages, and what of a request is fixed and what varies. Knows nothing of models, routes or HTTP."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

# A plain dict, so that keys we do not know reach the engine unchanged (pydantic drops a TypedDict's unknown keys).
Message = dict[str, Any]

FIXED_ROLES = frozenset({"system", "developer"})
TEMPLATE_KEY_HEX_DIGITS = 16  # 64 bits: two of a million fixed parts collide with a chance of 3e-8
VARYING_TURNS = 4  # the last turns carry the question; older ones are context


def text_of(message: Message) -> str:
    """The text of one message: its string content, or the text parts of a list content joined by newlines."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def fixed_text(messages: Iterable[Message]) -> str:
    """The text that a caller sends with every request of one kind: the system and developer messages."""
    return "\n".join(text_of(m) for m in messages if m.get("role") in FIXED_ROLES)


def varying_text(messages: Iterable[Message]) -> str:
    """The text that differs between requests of one kind: the last turns that are not fixed."""
    return "\n".join([text_of(m) for m in messages if m.get("role") not in FIXED_ROLES][-VARYING_TURNS:])


def template_key(body: Mapping[str, Any]) -> str | None:
    """Name the template of a request by its fixed part: system and developer messages, tools, response format.

    Two requests with equal fixed parts come from the same place in the caller's code, so evidence about one speaks
    for the other. None when nothing is fixed: such traffic has no template. 16 hex digits otherwise. Also None for a
    fixed part nested so deep that Python cannot write it, which no engine could be sent either.
    """
    fixed = {
        "messages": [[m.get("role"), m.get("content")] for m in body["messages"] if m.get("role") in FIXED_ROLES],
        "tools": body.get("tools"),
        "response_format": body.get("response_format"),
    }
    if not any(fixed.values()):
        return None
    try:
        canonical = orjson.dumps(fixed, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # it reads 1,024 levels and writes 254
        return None
    return hashlib.sha256(canonical).hexdigest()[:TEMPLATE_KEY_HEX_DIGITS]
