"""A session stays with its model as long as only the looks of a turn speak against it."""

import pytest

from gateway import sessions as sessions_module
from gateway.sessions import SESSION_SECONDS, Sessions
from router.decision import Basis, Decision
from tests.gateway.wire import CHAT, OpenRig, chat
from tests.router.world import LARGE, MIDDLE, SMALL, THREE

FROM = {model.name: tuple(m.name for m in THREE[place:]) for place, model in enumerate(THREE)}


def decided(model: str, basis: Basis = Basis.DIFFICULTY) -> Decision:
    return Decision(FROM[model], basis, "why", None)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_by_looks_a_session_moves_up_and_not_back_down() -> None:
    sessions = Sessions()
    moves = [
        sessions.stick("s", decided(name), THREE).model for name in ("small", "middle", "small", "large", "middle")
    ]
    assert moves == ["small", "middle", "middle", "large", "large"]


def test_what_stays_falls_back_to_higher_tiers_only_and_says_why() -> None:
    sessions = Sessions()
    sessions.stick("s", decided("middle"), THREE)
    kept = sessions.stick("s", decided("small"), THREE)
    assert kept.order == ("middle", "large")
    assert kept.reason == "the session stays with middle; why"


@pytest.mark.parametrize("basis", [Basis.PINNED, Basis.EVIDENCE, Basis.FAULT])
def test_evidence_a_name_and_a_fault_go_before_the_session(basis: Basis) -> None:
    sessions = Sessions()
    sessions.stick("s", decided("large"), THREE)
    assert sessions.stick("s", decided("small", basis), THREE).model == "small"


def test_sessions_do_not_know_each_other_and_end_after_an_hour() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    sessions.stick("s", decided("large"), THREE)
    assert sessions.stick("t", decided("small"), THREE).model == "small"
    clock.now = SESSION_SECONDS + 1
    assert sessions.stick("s", decided("small"), THREE).model == "small"


def test_a_model_that_may_not_answer_now_holds_no_session() -> None:
    sessions = Sessions()
    sessions.stick("s", decided("large"), THREE)
    assert sessions.stick("s", Decision(("small",), Basis.SAFE, "why", None), (SMALL, MIDDLE)).model == "small"


def test_only_the_sessions_used_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "SESSIONS_LIMIT", 2)
    sessions = Sessions()
    for session in ("a", "b", "a", "c"):
        sessions.stick(session, decided(LARGE.name), THREE)
    assert sessions.stick("a", decided("small"), THREE).model == "large"
    assert sessions.stick("b", decided("small"), THREE).model == "small"


@pytest.mark.anyio
async def test_a_request_names_its_session_by_header_or_cache_key(rig: OpenRig) -> None:
    async with rig() as r:
        await r.http.post(CHAT, json=chat("auto"), headers={"x-pointsman-session": "one"})
        await r.http.post(CHAT, json=chat("auto", prompt_cache_key="two"))
        assert [key.partition(":")[2] for key in r.runtime.sessions._models] == ["one", "two"]
        assert [call.affinity for call in r.engines["large"].calls] == list(r.runtime.sessions._models)
