"""/v1/feedback: outcomes of one's own requests, at any time, one for each name."""

import asyncio
from typing import Any

import httpx2
import pytest

from gateway.feedback import NAMES_LIMIT
from models.scripted import Say, Wait
from tests.gateway.stranger import another_http
from tests.gateway.wire import CHAT, OpenRig, chat, error_of
from tests.rig import Rig

pytestmark = pytest.mark.anyio

PATH = "/v1/feedback"


async def answered(r: Rig) -> str:
    """The id of a request that has been answered."""
    return str((await r.http.post(CHAT, json=chat())).headers["x-request-id"])


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "boolean"), (False, "boolean"), (0, "number"), (0.25, "number"), (-3, "number"), ("né", "text")],
)
async def test_a_value_comes_back_as_it_was_told_with_its_kind(rig: OpenRig, value: Any, kind: str) -> None:
    async with rig() as r:
        id = await answered(r)
        told = await r.http.post(PATH, json={"request_id": id, "value": value, "comment": "why"})
        assert told.status_code == 200
        document = told.json()
        assert (document["value"], document["kind"], document["name"]) == (value, kind, "feedback")
        assert type(document["value"]) is type(value)
        listed = (await r.http.get(PATH, params={"request_id": id})).json()
        assert listed == {"object": "list", "data": [document]}
        assert document["comment"] == "why"
        assert await r.metric("pointsman_feedback_total", kind=kind) == 1


async def test_telling_again_replaces_only_what_has_that_name(rig: OpenRig) -> None:
    async with rig() as r:
        id = await answered(r)
        for name, value in (("a", 1), ("b", True), ("a", "better"), ("a", "better")):
            assert (await r.http.post(PATH, json={"request_id": id, "name": name, "value": value})).status_code == 200
        listed = (await r.http.get(PATH, params={"request_id": id})).json()["data"]
        assert [(one["name"], one["value"]) for one in listed] == [("a", "better"), ("b", True)]


async def test_it_may_be_told_while_the_answer_is_still_being_made(rig: OpenRig) -> None:
    gate = asyncio.Event()
    async with rig(large=lambda call: [Say("x"), Wait(gate), Say("y")]) as r:
        body = chat(stream=True)
        async with r.http.stream("POST", CHAT, json=body) as response:
            id = response.headers["x-request-id"]
            assert (await r.http.post(PATH, json={"request_id": id, "value": True})).status_code == 200
            gate.set()


async def test_twenty_at_once_leave_one(rig: OpenRig) -> None:
    async with rig() as r:
        id = await answered(r)
        tellings = [r.http.post(PATH, json={"request_id": id, "value": n}) for n in range(20)]
        assert {response.status_code for response in await asyncio.gather(*tellings)} == {200}
        assert len((await r.http.get(PATH, params={"request_id": id})).json()["data"]) == 1


async def test_a_request_has_so_many_names_and_these_can_be_told_again(rig: OpenRig) -> None:
    async with rig() as r:
        id = await answered(r)

        async def tell(number: int) -> httpx2.Response:
            return await r.http.post(PATH, json={"request_id": id, "name": f"n{number}", "value": number})

        assert {(await tell(number)).status_code for number in range(NAMES_LIMIT)} == {200}
        for number in (NAMES_LIMIT, NAMES_LIMIT + 1):
            refused = await tell(number)
            assert (refused.status_code, error_of(refused)["param"]) == (400, "name")
        assert (await tell(3)).status_code == 200
        assert len((await r.http.get(PATH, params={"request_id": id})).json()["data"]) == NAMES_LIMIT


async def test_a_request_of_another_caller_is_not_there(rig: OpenRig) -> None:
    async with rig() as r, another_http(r) as other:
        id = await answered(r)
        await r.http.post(PATH, json={"request_id": id, "value": True})
        for response in (
            await other.post(PATH, json={"request_id": id, "value": False}),
            await r.http.post(PATH, json={"request_id": "req_nothing", "value": True}),
        ):
            assert response.status_code == 404
            assert error_of(response)["param"] == "request_id"
        assert (await other.get(PATH, params={"request_id": id})).json()["data"] == []
        [mine] = (await r.http.get(PATH, params={"request_id": id})).json()["data"]
        assert mine["value"] is True


async def test_a_ledger_that_cannot_be_written_is_a_503_not_a_404(
    rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("gateway.api.feedback.SETTLE_SECONDS", 0.01)
    async with rig() as r:
        monkeypatch.setattr(r.runtime.ledger, "flush", never)
        response = await r.http.post(PATH, json={"request_id": "req_nothing", "value": True})
        assert response.status_code == 503
        error_of(response)


WRONG = [
    ({}, "request_id"),
    ({"request_id": 7, "value": 1}, "request_id"),
    ({"request_id": "", "value": 1}, "request_id"),
    ({"request_id": "x" * 65, "value": 1}, "request_id"),
    ({"request_id": "req_\0", "value": 1}, "request_id"),
    ({"request_id": "req_\u00e9", "value": 1}, "request_id"),
    ({"request_id": "x"}, "value"),
    ({"request_id": "x", "value": None}, "value"),
    ({"request_id": "x", "value": [1]}, "value"),
    ({"request_id": "x", "value": 1e13}, "value"),
    ({"request_id": "x", "value": ""}, "value"),
    ({"request_id": "x", "value": "v" * 1001}, "value"),
    ({"request_id": "x", "value": 1, "name": "a b"}, "name"),
    ({"request_id": "x", "value": 1, "name": "n" * 65}, "name"),
    ({"request_id": "x", "value": 1, "comment": "c" * 4001}, "comment"),
    ({"request_id": "x", "value": 1, "score": 1}, "score"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
async def test_what_is_wrong_is_a_400_that_names_it(rig: OpenRig, body: dict[str, Any], param: str) -> None:
    async with rig() as r:
        response = await r.http.post(PATH, json=body)
        assert response.status_code == 400
        assert error_of(response)["param"].partition(".")[0] == param


async def test_a_request_without_an_id_is_a_400(rig: OpenRig) -> None:
    async with rig() as r:
        for params in ({}, {"request_id": "\0"}):
            response = await r.http.get(PATH, params=params)
            assert response.status_code == 400
            assert error_of(response)["param"] == "request_id"
