"""How many tokens a prompt has, by the official clients, from scripted engines that count words."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anthropic
import pytest
from anthropic import AsyncAnthropic

from models.engine import Call, EngineRefused, Operation
from models.scripted import Script
from tests.rig import Rig

pytestmark = pytest.mark.anyio

OpenRig = Callable[..., AbstractAsyncContextManager[Rig]]


def claude(rig: Rig) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=rig.base_url, api_key=rig.key, max_retries=0)


def no_such_path(call: Call) -> Script:
    return [EngineRefused("File Not Found", status=404)]


async def test_anthropics_client_learns_how_long_a_prompt_is(rig: OpenRig) -> None:
    async with rig() as r, claude(r) as client:
        counted = await client.messages.count_tokens(
            model="small", system="Be brief.", messages=[{"role": "user", "content": "one two three"}]
        )
        assert counted.input_tokens == 5
        (call,) = r.engines["small"].calls
        assert call.operation is Operation.COUNT


async def test_openais_client_learns_how_long_a_prompt_is(rig: OpenRig) -> None:
    async with rig() as r:
        counted = await r.client.responses.input_tokens.count(model="auto", input="one two three")
        assert counted.input_tokens == 3


async def test_what_a_response_goes_on_from_is_counted_too(rig: OpenRig) -> None:
    async with rig() as r:
        first = await r.client.responses.create(model="small", input="one two")
        counted = await r.client.responses.input_tokens.count(
            model="small", input="three", previous_response_id=first.id
        )
        assert counted.input_tokens == len(["one", "two", "small", "answer", "three"])


async def test_counting_is_not_charged(rig: OpenRig) -> None:
    async with rig() as r:
        await r.client.responses.input_tokens.count(model="small", input="one")
        await r.client.responses.create(model="small", input="one")
        (charge,) = await r.charges(1)
        assert charge["model"] == "small"


async def test_a_server_that_cannot_count_is_not_found(rig: OpenRig) -> None:
    async with rig(small=no_such_path) as r, claude(r) as client:
        with pytest.raises(anthropic.NotFoundError, match="small cannot count tokens"):
            await client.messages.count_tokens(model="small", messages=[{"role": "user", "content": "one"}])


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches"])
async def test_whoever_speaks_as_anthropic_does_reads_errors_so(rig: OpenRig, path: str) -> None:
    """Those of the guard, of the routes, and of paths that are not there."""
    async with rig() as r:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            response = await r.http.post(path, json={"model": "none", "messages": []}, headers=headers)
            document = response.json()
            assert document.keys() == {"type", "error", "request_id"}
            assert document["error"].keys() == {"type", "message"}
            assert document["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]


async def test_an_unknown_model_is_not_found_by_anthropics_client_either(rig: OpenRig) -> None:
    async with rig() as r, claude(r) as client:
        with pytest.raises(anthropic.NotFoundError) as unknown:
            await client.messages.count_tokens(model="none", messages=[{"role": "user", "content": "one"}])
        assert unknown.value.request_id is not None
