"""A fault of the router never reaches a client: the safe tier answers."""

from collections.abc import Sequence

import pytest

from gateway import runtime
from router import strategies
from router.decision import Decision, Knowledge, Question
from tests.gateway.wire import CHAT, OpenRig, chat

pytestmark = pytest.mark.anyio


class Broken:
    def decide(self, question: Question, knowledge: Knowledge) -> Decision:
        raise RuntimeError("secret insides")


def no_features(body: object) -> Sequence[float]:
    raise ZeroDivisionError


@pytest.mark.parametrize("fault", ["strategy", "template"])
async def test_the_safe_tier_answers_when_the_router_fails(
    rig: OpenRig, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "strategy":
        monkeypatch.setitem(strategies.STRATEGIES, "evidence", Broken)
    else:
        monkeypatch.setattr(runtime, "template_key", no_features)
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat("auto"))
        assert response.status_code == 200
        assert (response.headers["x-pointsman-model"], response.headers["x-pointsman-basis"]) == ("large", "fault")
        assert "insides" not in str(response.headers)
        [row] = await r.charges(1)
        assert (row["model"], row["basis"], row["outcome"]) == ("large", "fault", "ok")
        assert await r.metric("pointsman_decisions_total", model="large", basis="fault") == 1


async def test_a_model_named_by_the_client_needs_no_strategy(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(strategies.STRATEGIES, "evidence", Broken)
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat("small"))
        assert (response.headers["x-pointsman-model"], response.headers["x-pointsman-basis"]) == ("small", "pinned")


@pytest.mark.parametrize(("strategy", "chosen"), [("safe", "large"), ("cheapest", "small"), ("evidence", "large")])
async def test_the_operator_chooses_the_strategy(rig: OpenRig, strategy: str, chosen: str) -> None:
    async with rig(strategy=strategy) as r:
        response = await r.http.post(CHAT, json=chat("auto"))
        assert response.headers["x-pointsman-model"] == chosen
