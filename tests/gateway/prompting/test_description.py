"""The OpenAPI document says what a request must have that names a prompt, and what one that names none."""

from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from tests.gateway.prompting.test_calling import CHAT_WAYS, RESPONSE_WAYS
from tests.gateway.prompting.test_paths import MESSAGES_WAYS
from tests.gateway.prompting.world import LIBRARY, publish
from tests.gateway.wire import CHAT, OpenRig

pytestmark = pytest.mark.anyio

# By path: what the document has to let in, and what a request has to have that names no prompt.
PATHS: Mapping[str, tuple[Mapping[str, Any], dict[str, Any], set[str]]] = {
    CHAT: (CHAT_WAYS, {"messages": []}, {"model", "messages"}),
    "/v1/responses": (RESPONSE_WAYS, {}, {"model", "input"}),
    "/v1/messages": (MESSAGES_WAYS, {"messages": []}, {"model", "messages", "max_tokens"}),
}


async def described(r: Any, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = (await r.http.get("/openapi.json")).json()["paths"][path]["post"]
    return operation


def body_of(operation: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema


@pytest.mark.parametrize("path", PATHS)
async def test_whatever_a_prompt_is_called_by_is_as_the_document_says_with_and_without_the_rest(
    rig: OpenRig, path: str
) -> None:
    ways, beside, _ = PATHS[path]
    async with rig() as r:
        publish(r, LIBRARY)
        operation = await described(r, path)
        fits = Draft202012Validator(body_of(operation))
        told = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
        for asked, _ in ways.values():
            more = {key: value for key, value in asked.items() if not key.startswith("extra_")}
            headers = asked.get("extra_headers", {})
            body = {**more, **asked.get("extra_body", {})}
            if headers:
                body.pop("model")
            for sent in ({**beside, **body}, body):
                fits.validate(sent)
                answer = await r.http.post(path, json=sent, headers=headers)
                assert answer.status_code == 200, answer.text
            assert {*headers} <= told == {"x-prompt-id", "x-prompt-version"}


@pytest.mark.parametrize("path", PATHS)
async def test_what_must_be_there_without_a_prompt_is_told_in_words(rig: OpenRig, path: str) -> None:
    async with rig() as r:
        schema = body_of(await described(r, path))
        says = {name for name, one in schema["properties"].items() if "required unless" in one.get("description", "")}
        assert says == PATHS[path][2]
        assert "required" not in schema
        whole = {"model": "large", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi."}], "input": "Hi."}
        for name in says:
            refused = await r.http.post(path, json={key: whole[key] for key in says - {name}})
            assert (refused.status_code, name in refused.text) == (400, True)
        assert (await r.http.post(path, json={key: whole[key] for key in says})).status_code == 200


async def test_where_no_prompt_can_be_named_the_document_says_nothing_of_one(rig: OpenRig) -> None:
    async with rig() as r:
        for path, needed in (("/v1/completions", {"model", "prompt"}), ("/v1/embeddings", {"model", "input"})):
            operation = await described(r, path)
            assert operation["parameters"] == []
            assert {*body_of(operation)["required"]} == needed
            assert "prompt_id" not in body_of(operation)["properties"]
