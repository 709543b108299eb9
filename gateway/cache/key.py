"""What makes two requests the same: everything that can change the answer. Pure; knows no store."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.keys import Caller
from gateway.schema import Asked
from models.catalog import Ability, Model
from models.engine import Operation
from prompts.message import FIXED_ROLES, VARYING_TURNS, Message, varying_text

# Fields that say how the answer is sent, who asked, and what is noted about it; the model is in the key by its build.
NOT_IN_KEY = frozenset(
    {
        "metadata",
        "model",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "stream",
        "stream_options",
        "user",
    }
)
FORMAT = 1  # of what is kept; another one is not read by a gateway that does not know it
VARYING = "varying text"  # stands for a text that may be another one
Parts = Mapping[str, Any]


def is_repeatable(asked: Asked) -> bool:
    """The caller expects the same answer again: nothing is left to chance."""
    body = asked.body
    return asked.operation is Operation.EMBEDDING or body.get("temperature") == 0 or body.get("seed") is not None


def looks_outside(asked: Asked) -> bool:
    """The answer also depends on what stands at an address today."""
    return Ability.MEDIA_URLS in asked.needs or asked.body.get("web_search_options") is not None


def holder_of(caller: Caller, shared_by: str) -> str:
    """Whose answers *caller* may get again. A caller without a team shares with nobody."""
    return f"team:{caller.team}" if shared_by == "team" and caller.team else f"caller:{caller.id}"


def exact_key(holder: str, model: Model, asked: Asked) -> str | None:
    """64 hex digits. None for a body nested deeper than orjson writes."""
    return _digest(holder, model, asked, asked.body)


def likeness_key(holder: str, model: Model, asked: Asked) -> str | None:
    """The same for requests that differ in their varying texts only. None when more than those may tell them apart:
    pictures, calls of tools, or more turns than `varying_text` reads.
    """
    varying = [message for message in asked.messages if message.get("role") not in FIXED_ROLES]
    if not 0 < len(varying) <= VARYING_TURNS or not all(map(_is_text, varying)):
        return None
    alike = [{**m, "content": VARYING} if m.get("role") not in FIXED_ROLES else m for m in asked.messages]
    return _digest(holder, model, asked, {**asked.body, "messages": alike})


def likeness_text(asked: Asked) -> str:
    return varying_text(asked.messages)


def _digest(holder: str, model: Model, asked: Asked, body: Parts) -> str | None:
    # The template's syntax is of no account: what is hashed is the request as the model would get it.
    asks = {name: value for name, value in body.items() if name not in NOT_IN_KEY}
    try:
        written = orjson.dumps(
            [FORMAT, holder, asked.operation, model.name, model.build, asks], option=orjson.OPT_SORT_KEYS
        )
    except orjson.JSONEncodeError:
        return None
    return hashlib.sha256(written).hexdigest()


def _is_text(message: Message) -> bool:
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return isinstance(content, str) and not message.get("tool_calls")
