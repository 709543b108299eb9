"""Answers of the safe tier that their callers gave to learn from: kept responses that say so, of one prompt.

The ledger keeps no text. A response is kept for its caller to come back to (`store`), which is no consent to learn
from it; the caller gives that with each request, as metadata: {"pointsman_teach": "yes"}. What has expired or was
deleted is gone.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Engine, select

from gateway.ledger.tables import responses
from prompts.suite import Case

CONSENT, GIVEN = "pointsman_teach", "yes"


def consented(database: Engine, prompt_id: str, model: str, now: datetime) -> list[tuple[Case, str | None]]:
    """Whole answers of *model* to *prompt_id*, with the variables that they answer; the oldest first."""
    mine = select(responses.c.id, responses.c.document).where(responses.c.expires_at > now)
    found: list[tuple[Case, str | None]] = []
    with database.connect() as connection:
        for row in connection.execute(mine.order_by(responses.c.created_at)):
            document = orjson.loads(row.document)
            answer = _answer(document, prompt_id, model)
            if answer is not None:
                found.append((Case(row.id, (), document["prompt"].get("variables") or {}), answer))
    return found


def _answer(document: Mapping[str, Any], prompt_id: str, model: str) -> str | None:
    """None where it is no text, not whole, another's, or was not given."""
    prompt, metadata = document.get("prompt"), document.get("metadata") or {}
    if not isinstance(prompt, dict) or prompt.get("id") != prompt_id or metadata.get(CONSENT) != GIVEN:
        return None
    if document.get("status") != "completed" or document.get("model") != model:
        return None
    texts = [
        part["text"]
        for item in document.get("output") or ()
        if item.get("type") == "message"
        for part in item.get("content") or ()
        if part.get("type") == "output_text"
    ]
    return texts[0].strip() or None if len(texts) == 1 else None
