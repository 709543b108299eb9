"""Responses that refer to items of earlier ones, through the front door."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from openai import BadRequestError
from openai.types.responses import ResponseInputItemParam

from gateway.api.responses import NAMED_RESPONSES_LIMIT
from tests.rig import Rig

pytestmark = pytest.mark.anyio

OpenRig = Callable[..., AbstractAsyncContextManager[Rig]]


def reference(id: str | None) -> ResponseInputItemParam:
    assert id is not None
    return {"type": "item_reference", "id": id}


def bare(id: str | None) -> ResponseInputItemParam:
    """A reference may leave its type out."""
    assert id is not None
    return {"id": id}


def user(text: str) -> ResponseInputItemParam:
    return {"role": "user", "content": text}


async def test_an_item_is_taken_from_the_response_that_it_belongs_to(rig: OpenRig) -> None:
    """The Vercel AI SDK keeps the conversation itself and sends what the model said by its id alone."""
    async with rig() as r:
        first = await r.client.responses.create(model="small", input="One")
        second = await r.client.responses.create(
            model="small", input=[user("One"), reference(first.output[0].id), user("Two")]
        )
        await r.client.responses.create(
            model="small",
            input=[user("One"), reference(first.output[0].id), user("Two"), bare(second.output[0].id), user("Three")],
        )
        said = {"role": "assistant", "content": "small answer"}
        assert r.engines["small"].calls[-1].body["messages"] == [
            {"role": "user", "content": "One"},
            said,
            {"role": "user", "content": "Two"},
            said,
            {"role": "user", "content": "Three"},
        ]


async def test_a_response_goes_on_from_one_that_referred_to_items(rig: OpenRig) -> None:
    async with rig() as r:
        first = await r.client.responses.create(model="small", input="One")
        second = await r.client.responses.create(model="small", input=[reference(first.output[0].id), user("Two")])
        await r.client.responses.create(model="small", input="Three", previous_response_id=second.id)
        contents = [message["content"] for message in r.engines["small"].calls[-1].body["messages"]]
        assert contents == ["small answer", "Two", "small answer", "Three"]


@pytest.mark.parametrize("id", ["msg_0123_0", "nothing", "msg_", ""])
async def test_an_item_that_is_nowhere_is_refused_by_its_place(rig: OpenRig, id: str) -> None:
    async with rig() as r:
        with pytest.raises(BadRequestError) as refused:
            await r.client.responses.create(model="small", input=[user("One"), reference(id)])
        assert refused.value.param == "input[1].id"


async def test_an_item_of_a_response_that_was_not_kept_is_refused(rig: OpenRig) -> None:
    async with rig() as r:
        first = await r.client.responses.create(model="small", input="One", store=False)
        with pytest.raises(BadRequestError, match="was kept here"):
            await r.client.responses.create(model="small", input=[reference(first.output[0].id)])


async def test_items_of_too_many_responses_are_refused(rig: OpenRig) -> None:
    async with rig() as r:
        many = [reference(f"msg_{place}_0") for place in range(NAMED_RESPONSES_LIMIT + 1)]
        with pytest.raises(BadRequestError, match="previous_response_id"):
            await r.client.responses.create(model="small", input=many)


async def test_nobody_refers_to_the_items_of_another_key(rig: OpenRig) -> None:
    async with rig() as r:
        first = await r.client.responses.create(model="small", input="Secret")
        key, _ = r.runtime.keys.create("stranger")
        with pytest.raises(BadRequestError, match="of yours"):
            await r.client.with_options(api_key=key).responses.create(
                model="small", input=[reference(first.output[0].id)]
            )
