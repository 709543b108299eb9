"""Responses, Messages, completions and embeddings through the front door, with the official clients."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from anthropic import APIStatusError as AnthropicStatusError
from anthropic import AsyncAnthropic
from openai import BadRequestError, NotFoundError

from gateway.responses import Kept, ResponseStore
from models.catalog import TEXT_ABILITIES
from models.engine import EngineCut, EngineUnavailable
from models.scripted import Say
from tests.gateway.stranger import another_caller
from tests.gateway.wire import OpenRig, error_of
from tests.rig import CATALOG, Rig

pytestmark = pytest.mark.anyio

EMBEDS = CATALOG.replace("    tier: 0\n", "    tier: 0\n    abilities: [embeddings, chat]\n")


def anthropic(r: Rig) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=r.base_url, api_key=r.key, max_retries=0)


# Responses


async def test_a_response_goes_on_from_an_earlier_one(rig: OpenRig) -> None:
    async with rig() as r:
        first = await r.client.responses.create(model="large", input="My name is Ada.", instructions="Be brief.")
        assert (first.output_text, first.status) == ("large answer", "completed")
        second = await r.client.responses.create(model="large", input="My name?", previous_response_id=first.id)
        roles = [(m["role"], m["content"]) for m in r.engines["large"].calls[-1].body["messages"]]
        assert roles == [("user", "My name is Ada."), ("assistant", "large answer"), ("user", "My name?")]
        assert second.previous_response_id == first.id
        assert (await r.client.responses.retrieve(first.id)).output_text == "large answer"
        items = [item async for item in await r.client.responses.input_items.list(second.id)]
        assert len(items) == 3
        await r.client.responses.delete(first.id)
        with pytest.raises(NotFoundError):
            await r.client.responses.retrieve(first.id)


async def test_a_streamed_response_is_kept_before_its_last_event(rig: OpenRig) -> None:
    async with rig() as r:
        async with r.client.responses.stream(model="large", input="Hello") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert (await r.client.responses.retrieve(final.id)).output_text == "large answer"
        [row] = await r.charges(1)
        assert (row["operation"], row["outcome"], row["streamed"]) == ("responses", "ok", True)


async def test_a_response_that_was_not_to_be_kept_or_is_somebody_elses_is_not_found(rig: OpenRig) -> None:
    async with rig() as r:
        unkept = await r.client.responses.create(model="large", input="x", store=False)
        mine = await r.client.responses.create(model="large", input="x")
        with pytest.raises(NotFoundError):
            await r.client.responses.retrieve(unkept.id)
        async with another_caller(r) as other:
            with pytest.raises(NotFoundError):
                await other.responses.retrieve(mine.id)
            with pytest.raises(NotFoundError) as refused:
                await other.responses.create(model="large", input="x", previous_response_id=mine.id)
            assert refused.value.param == "previous_response_id"


async def test_a_response_that_breaks_off_fails_and_is_not_kept(rig: OpenRig) -> None:
    async with rig(large=lambda call: [Say("half "), EngineCut("broke off")]) as r:
        stream = await r.client.responses.create(model="large", input="x", stream=True)
        events = [event async for event in stream]
        assert [event.type for event in events][-2:] == ["error", "response.failed"]
        with pytest.raises(NotFoundError):
            await r.client.responses.retrieve(events[0].response.id)  # type: ignore[union-attr]  # it is `created`


async def test_what_responses_refuse_names_the_parameter(rig: OpenRig) -> None:
    async with rig() as r:
        with pytest.raises(BadRequestError) as refused:
            await r.client.responses.create(
                model="large",
                input=[{"role": "user", "content": [{"type": "what"}]}],  # type: ignore[list-item,misc]  # wrong on purpose
            )
        assert refused.value.param == "input[0].content[0].type"
        assert r.engines["large"].calls == []


async def test_a_kept_response_lives_as_long_as_the_operator_says(rig: OpenRig) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    async with rig() as r:
        store = ResponseStore(r.runtime.responses._database, retention=timedelta(days=2), clock=lambda: now)
        await asyncio.to_thread(store.keep, Kept("resp_1", "me", None, [], {}))
        assert await asyncio.to_thread(store.find, "resp_1", "me") is not None
        now += timedelta(days=2)
        assert await asyncio.to_thread(store.find, "resp_1", "me") is None


# Messages


async def test_anthropics_client_is_answered_whole_and_streamed(rig: OpenRig) -> None:
    async with rig() as r, anthropic(r) as client:
        hello = [{"role": "user", "content": "Hello"}]
        message = await client.messages.create(model="large", max_tokens=10, system="Be brief.", messages=hello)  # type: ignore[arg-type]
        assert message.content[0].text == "large answer"  # type: ignore[union-attr]
        assert message.stop_reason == "end_turn"
        assert message.usage.output_tokens == 2
        async with client.messages.stream(model="large", max_tokens=10, messages=hello) as stream:  # type: ignore[arg-type]
            assert [text async for text in stream.text_stream] == ["large ", "answer"]
        assert r.engines["large"].calls[0].body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert [row["operation"] for row in await r.charges(2)] == ["messages"] * 2


@pytest.mark.parametrize(
    ("key", "model", "status", "kind"),
    [
        ("wrong", "large", 401, "authentication_error"),
        (None, "nobody", 404, "not_found_error"),
        (None, "small", 529, "overloaded_error"),
    ],
)
async def test_errors_have_anthropics_shape(rig: OpenRig, key: str | None, model: str, status: int, kind: str) -> None:
    async with (
        rig(small=lambda call: [EngineUnavailable("gone")]) as r,
        AsyncAnthropic(base_url=r.base_url, api_key=key or r.key, max_retries=0) as client,
    ):
        with pytest.raises(AnthropicStatusError) as refused:
            await client.messages.create(model=model, max_tokens=1, messages=[{"role": "user", "content": "x"}])
        assert refused.value.status_code == (503 if status == 529 else status)
        body = refused.value.body
        assert isinstance(body, dict)
        assert body["type"] == "error"
        assert body["error"]["type"] == kind
        assert body["request_id"] == refused.value.response.headers["x-request-id"]


# Completions and embeddings


async def test_a_text_is_continued_whole_and_streamed(rig: OpenRig) -> None:
    async with rig() as r:
        whole = await r.client.completions.create(model="large", prompt="Once")
        assert (whole.choices[0].text, whole.object, whole.model) == ("large answer", "text_completion", "large")
        stream = await r.client.completions.create(model="large", prompt="Once", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "large answer"
        assert r.engines["large"].calls[0].body["prompt"] == "Once"


async def test_vectors_come_from_a_model_that_embeds(rig: OpenRig) -> None:
    async with rig(catalog=EMBEDS) as r:
        made = await r.client.embeddings.create(model="small", input=["a text"], encoding_format="float")
        assert made.data[0].embedding == [12.0]
        with pytest.raises(BadRequestError) as refused:
            await r.client.embeddings.create(model="large", input="x")
        assert "embeddings" in str(refused.value)
        assert "'large'" in str(refused.value)
        row = (await r.charges(2))[0]
        assert (row["operation"], row["prompt_tokens"], row["completion_tokens"]) == ("embedding", 2, 0)


async def test_what_completions_and_embeddings_refuse_is_named(rig: OpenRig) -> None:
    assert "completions" in TEXT_ABILITIES
    async with rig() as r:
        for path, body, param in (
            ("completions", {}, "prompt"),
            ("completions", {"prompt": {}}, "prompt"),
            ("completions", {"prompt": []}, "prompt"),
            ("completions", {"prompt": ["x"] * 17}, "prompt"),
            ("completions", {"prompt": "x", "best_of": 9}, "best_of"),
            ("embeddings", {}, "input"),
            ("embeddings", {"input": [1.5]}, "input"),
            ("embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ):
            response = await r.http.post(f"/v1/{path}", json={"model": "large", **body})
            assert (response.status_code, error_of(response)["param"]) == (400, param), body
        assert r.engines["large"].calls == []
