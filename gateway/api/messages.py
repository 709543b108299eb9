"""/v1/messages: Anthropic's protocol in front of the same models."""

import secrets
from functools import partial
from typing import Any

from gateway.api.voices import Translated, Voice
from gateway.held import Held
from gateway.schema import Asked, check, parse_object
from gateway.shapes import messages


async def read(held: Held, raw: bytes) -> tuple[Asked, Voice]:
    """Raises InvalidRequest, ModelNotFound."""
    body: dict[str, Any] = parse_object(raw)
    asked = check(messages.to_chat(body), held.runtime.catalog)
    return asked, Translated(messages, body, id=f"msg_{secrets.token_hex(12)}")


error_body = partial(messages.error_body)
