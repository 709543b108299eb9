"""/v1/messages: Anthropic's protocol in front of the same models."""

import secrets
from typing import Any

from gateway.api.voices import Translated, Voice
from gateway.errors import GatewayError
from gateway.held import Held
from gateway.prompting.naming import named_in
from gateway.schema import Asked, check, parse_object
from gateway.shapes import messages

PATHS = "/v1/messages"  # here, and at everything under it, errors are worded as Anthropic does


async def read(held: Held, raw: bytes) -> tuple[Asked, Voice]:
    """Raises InvalidRequest, ModelNotFound, PromptNotFound."""
    body = parse_object(raw)
    named = named_in(held, body)
    if named is not None:
        body = named.shown(body)
    chat = messages.to_chat(body)
    asked = check(chat, len(raw), held.runtime.catalog) if named is None else named.asked(held.runtime, chat)
    return asked, Translated(messages, body, id=f"msg_{secrets.token_hex(12)}")


def worded(error: GatewayError, path: str, request_id: str) -> dict[str, Any]:
    """*error* as the clients of *path* read it."""
    return messages.error_body(error, request_id) if path.startswith(PATHS) else error.body()


def body_schema() -> dict[str, Any]:
    """The least that a request has, as JSON Schema; the translation checks the rest."""
    return {
        "type": "object",
        "required": ["model", "messages", "max_tokens"],
        "properties": {
            "model": {"type": "string"},
            "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
            "max_tokens": {"type": "integer", "minimum": 1},
            "stream": {"type": "boolean"},
        },
    }


ERROR_SCHEMA = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": ["string", "null"]},
    },
}
