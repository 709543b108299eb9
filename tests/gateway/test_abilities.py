"""A request goes only to models whose row says that they can do what it needs."""

from typing import Any

import pytest

from models.catalog import Ability
from tests.gateway.wire import CHAT, USER, OpenRig, chat, error_of

pytestmark = pytest.mark.anyio

CATALOG = """
models:
  - name: small
    engine: scripted
    tier: 0
    context_tokens: 1000
    abilities: [chat, tools, images, structured]
    price: {input_usd: "0.1", output_usd: "0.2"}
  - name: large
    engine: scripted
    tier: 1
    context_tokens: 2000
    abilities: [chat, completions, logprobs, structured]
    price: {input_usd: "1", output_usd: "2"}
"""
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def shows(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


# what a request has -> the ability that it needs, and the parameter that an error names
NEEDS: list[tuple[dict[str, Any], Ability, str]] = [
    ({"tools": TOOLS}, Ability.TOOLS, "tools"),
    ({"logprobs": True}, Ability.LOGPROBS, "logprobs"),
    ({"n": 2}, Ability.CHOICES, "n"),
    ({"reasoning_effort": "low"}, Ability.REASONING, "reasoning_effort"),
    ({"messages": shows(PICTURE)}, Ability.IMAGES, "messages"),
    ({"messages": shows("http://169.254.169.254/x.png")}, Ability.MEDIA_URLS, "messages"),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        Ability.AUDIO,
        "messages",
    ),
    ({"modalities": ["text", "audio"]}, Ability.AUDIO, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, Ability.FILES, "messages"),
]
NEEDS += [
    ({"messages": [{"role": "user", "content": [part]}]}, Ability.MEDIA_URLS, "messages")
    for part in (
        {"type": "file", "file": {"file_data": "https://host/x.pdf"}},
        {"type": "file", "file": {"file_id": "HTTP://host/x.pdf"}},
        {"type": "document", "source": {"type": "url", "url": "ftp://host/x"}},
        {"type": "image", "source": {"url": " file:///etc/passwd"}},
    )
]
WITHOUT = [need for need in NEEDS if need[1] not in (Ability.LOGPROBS,)]


@pytest.mark.parametrize(("fields", "ability", "param"), WITHOUT, ids=[str(need[1]) for need in WITHOUT])
async def test_a_named_model_that_cannot_is_a_400_that_names_it_and_the_ability(
    rig: OpenRig, fields: dict[str, Any], ability: Ability, param: str
) -> None:
    async with rig(catalog=CATALOG) as r:
        response = await r.http.post(CHAT, json={**chat("large"), **fields})
        error = error_of(response)
        assert (response.status_code, error["code"], error["param"]) == (400, "unsupported_ability", param)
        assert "'large'" in error["message"]
        assert ability.value in error["message"]
        assert r.engines["large"].calls == []
        [row] = await r.charges(1)
        assert (row["outcome"], row["attempts"], row["cost_nano_usd"]) == ("refused", 0, None)


async def test_auto_goes_to_a_model_that_can(rig: OpenRig) -> None:
    async with rig(catalog=CATALOG) as r:
        for fields, model in (({"tools": TOOLS}, "small"), ({"messages": shows(PICTURE)}, "small"), ({}, "large")):
            response = await r.http.post(CHAT, json={**chat("auto"), **fields})
            assert response.headers["x-pointsman-model"] == model


async def test_where_nobody_can_the_error_says_what_is_missing(rig: OpenRig) -> None:
    async with rig(catalog=CATALOG) as r:
        error = error_of(await r.http.post(CHAT, json=chat("auto", reasoning_effort="high")))
        assert "no model served here" in error["message"]
        assert "reasoning" in error["message"]


async def test_an_address_in_a_picture_is_never_passed_to_an_engine_that_was_not_told_to_fetch(rig: OpenRig) -> None:
    """The engine would call whatever address a client writes."""
    urls = ["http://127.0.0.1/x", "HTTPS://host/x", "file:///etc/passwd", "//host/x", " data:x", "", "x" * 1000]
    async with rig(catalog=CATALOG) as r:
        for url in urls:
            response = await r.http.post(CHAT, json={"model": "auto", "messages": shows(url)})
            assert response.status_code == 400, url
        assert r.engines["small"].calls == r.engines["large"].calls == []


async def test_headers_for_the_engine_are_passed_on_and_no_others(rig: OpenRig) -> None:
    told = {"openai-beta": "x=1", "traceparent": "00-1-2-01", "x-client-request-id": "mine"}
    kept = {
        "cookie": "canary",
        "x-forwarded-host": "canary",
        "openai-organization": "canary",
        "x-stainless-os": "canary",
    }
    async with rig() as r:
        await r.http.post(CHAT, json={"model": "large", "messages": [USER]}, headers={**told, **kept})
        [call] = r.engines["large"].calls
        assert call.headers == told
