"""A prompt is named on every path that holds a conversation, Anthropic's by its own SDK; elsewhere that is refused."""

from collections.abc import Mapping
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic import BadRequestError as AnthropicBadRequest
from anthropic import NotFoundError as AnthropicNotFound
from openai import BadRequestError

from models.engine import Operation
from tests.gateway.prompting.test_calling import NAMED, OTHER, SAID, VARIABLES
from tests.gateway.prompting.world import LIBRARY, PLAIN, TRIAGE, heard, publish
from tests.gateway.wire import OpenRig, chat, error_of
from tests.rig import Rig

pytestmark = pytest.mark.anyio

MESSAGES, COMPLETIONS, EMBEDDINGS = "/v1/messages", "/v1/completions", "/v1/embeddings"
CATALOG = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 1000, abilities: [chat, completions, embeddings]}
  - {name: large, engine: scripted, tier: 1, context_tokens: 2000}
"""


def claude(rig: Rig) -> Any:
    """Anthropic's client, whose types are for other literals than a table has."""
    return AsyncAnthropic(base_url=rig.base_url, api_key=rig.key, max_retries=0)


Ways = Mapping[str, tuple[Mapping[str, Any], list[tuple[str, str]]]]
MESSAGES_WAYS: Ways = {
    "header": (
        {
            "model": "auto",
            "extra_headers": {"x-prompt-id": TRIAGE.id},
            "extra_body": {"prompt_variables": VARIABLES},
        },
        SAID,
    ),
    "headers": (
        {
            "model": "auto",
            "extra_headers": {"x-prompt-id": TRIAGE.id, "x-prompt-version": "staging"},
            "extra_body": {"variables": VARIABLES},
        },
        OTHER,
    ),
    "prompt": ({"model": "auto", "extra_body": {"prompt": {**NAMED, "version": 2}}}, OTHER),
    "model": ({"model": f"prompt:{TRIAGE.id}", "extra_body": {"variables": VARIABLES}}, SAID),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", MESSAGES_WAYS)
async def test_messages_call_a_prompt(rig: OpenRig, way: str, stream: bool) -> None:
    asked, said = MESSAGES_WAYS[way]
    async with rig() as r, claude(r) as client:
        publish(r, LIBRARY)
        raw = await client.messages.with_raw_response.create(messages=[], max_tokens=9, stream=stream, **asked)
        answer = await raw.parse()
        if stream:
            events = [event async for event in answer]
            assert events[0].message.model == "large"
            text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
        else:
            assert (answer.type, answer.model) == ("message", "large")
            text = answer.content[0].text
        assert text == "large answer"
        assert heard(r.engines["large"].calls) == [said]
        told = {"x-prompt-id": TRIAGE.id, "x-prompt-version": "1" if said is SAID else "2", "x-prompt-variant": "base"}
        assert {name: raw.headers[name] for name in told} == told
        body = r.engines["large"].calls[0].body
        assert body["max_completion_tokens"] == 9
        assert not {"max_tokens", "prompt", "variables", "prompt_variables"} & body.keys()
        [charge] = await r.charges(1)
        assert (charge["prompt"], charge["operation"]) == (TRIAGE.id, "messages")


async def test_the_turns_of_messages_go_in_the_prompts_place(rig: OpenRig) -> None:
    async with rig() as r, claude(r) as client:
        publish(r, LIBRARY)
        turns = [{"role": "user", "content": "Hello."}]
        await client.messages.create(model="auto", max_tokens=9, messages=turns, extra_body={"prompt": NAMED})
        assert heard(r.engines["large"].calls) == [[SAID[0], ("user", "Hello."), SAID[1]]]


async def test_what_messages_need_of_a_client_the_prompt_may_say(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        answer = await r.http.post(MESSAGES, json={"prompt": NAMED})
        assert answer.status_code == 200, answer.text
        assert r.engines["large"].calls[0].body["max_tokens"] == TRIAGE.parameters["max_tokens"]
        alone = await r.http.post(MESSAGES, json={"model": "auto", "max_tokens": 9, "messages": []})
        assert alone.status_code == 400


async def test_what_is_wrong_with_a_prompt_is_told_in_the_shape_of_messages(rig: OpenRig) -> None:
    async with rig() as r, claude(r) as client:
        publish(r, LIBRARY)
        ask = client.messages.create
        with pytest.raises(AnthropicNotFound, match=r"support/nothing") as missing:
            await ask(model="auto", max_tokens=9, messages=[], extra_headers={"x-prompt-id": "support/nothing"})
        assert missing.value.type == "not_found_error"
        with pytest.raises(AnthropicBadRequest, match="ticket") as wrong:
            await ask(model="auto", max_tokens=9, messages=[], extra_headers={"x-prompt-id": TRIAGE.id})
        assert wrong.value.type == "invalid_request_error"
        assert not any(engine.calls for engine in r.engines.values())


async def test_what_a_prompt_takes_is_counted_for_anthropics_client(rig: OpenRig) -> None:
    async with rig() as r, claude(r) as client:
        publish(r, LIBRARY)
        counted = await client.messages.count_tokens(
            model="auto", messages=[], extra_headers={"x-prompt-id": TRIAGE.id}, extra_body={"variables": VARIABLES}
        )
        words = sum(len(text.split()) for _, text in SAID)
        assert counted.input_tokens == words
        assert [call.operation for call in r.engines["large"].calls] == [Operation.COUNT]
        assert heard(r.engines["large"].calls) == [SAID]


NAMING: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({"x-prompt-id": PLAIN.id}, {}, "x-prompt-id"),
    ({"x-prompt-version": "2"}, {}, "x-prompt-version"),
    ({}, {"prompt_id": PLAIN.id}, "prompt_id"),
    ({}, {"prompt": {"id": PLAIN.id}}, "prompt"),
    ({}, {"model": f"prompt:{PLAIN.id}"}, "model"),
]


@pytest.mark.parametrize(("headers", "more", "param"), NAMING)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, {"model": "small", "prompt": "Once upon a time"}),
        (EMBEDDINGS, {"model": "small", "input": "a text"}),
    ],
)
async def test_a_path_that_holds_no_conversation_refuses_a_prompt_and_ignores_none(
    rig: OpenRig, path: str, body: dict[str, Any], headers: dict[str, str], more: dict[str, Any], param: str
) -> None:
    async with rig(catalog=CATALOG) as r:
        publish(r, LIBRARY)
        refused = await r.http.post(path, json={**body, **more}, headers=headers)
        error = error_of(refused)
        assert (refused.status_code, error["code"], error["param"]) == (400, "prompt_not_possible", param)
        assert path in error["message"]
        assert "/v1/chat/completions" in error["message"]
        assert not any(engine.calls for engine in r.engines.values())
        assert (await r.http.post(path, json=body)).status_code == 200


async def test_openais_client_learns_that_its_header_is_refused(rig: OpenRig) -> None:
    async with rig(catalog=CATALOG) as r:
        publish(r, LIBRARY)
        with pytest.raises(BadRequestError) as refused:
            await r.client.embeddings.create(model="small", input="a", extra_headers={"x-prompt-id": TRIAGE.id})
        assert refused.value.code == "prompt_not_possible"
        assert (await r.http.post("/v1/chat/completions", json=chat())).status_code == 200
