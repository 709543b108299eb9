"""Streams to the letter: comments while an engine thinks, counts once and only when asked for, one end."""

import asyncio

import orjson
import pytest

from models.engine import Call, EngineCut, EngineUnavailable
from models.scripted import Say, Script, Wait
from tests.gateway.wire import CHAT, OpenRig, chat, events_of

pytestmark = pytest.mark.anyio

COMMENT = ": the engine is thinking"
SOON_SECONDS = 0.05


async def test_comments_are_sent_while_an_engine_thinks_and_the_answer_follows(rig: OpenRig) -> None:
    thinking = asyncio.Event()
    async with rig(large=lambda call: [Wait(thinking), Say("at last")], keepalive_seconds=SOON_SECONDS) as r:
        asyncio.get_running_loop().call_later(4 * SOON_SECONDS, thinking.set)
        response = await r.http.post(CHAT, json=chat(stream=True))
        assert response.status_code == 200
        comments, answer = split(response.text)
        assert comments >= 2
        assert "at last" in answer[0]
        assert answer[-1] == "data: [DONE]"
        [row] = await r.charges(1)
        assert (row["outcome"], row["completion_tokens"]) == ("ok", 1)


async def test_comments_are_sent_between_chunks_too(rig: OpenRig) -> None:
    thinking = asyncio.Event()
    async with rig(large=lambda call: [Say("one "), Wait(thinking), Say("two")], keepalive_seconds=SOON_SECONDS) as r:
        asyncio.get_running_loop().call_later(4 * SOON_SECONDS, thinking.set)
        response = await r.http.post(CHAT, json=chat(stream=True))
        lines = [line for line in response.text.split("\n\n") if line]
        first, last = (next(at for at, line in enumerate(lines) if word in line) for word in ("one ", "two"))
        assert COMMENT in lines[first + 1 : last]


async def test_who_fails_after_a_comment_says_so_in_an_event(rig: OpenRig) -> None:
    """The status line is sent by then."""
    thinking = asyncio.Event()
    script = [Wait(thinking), EngineUnavailable("the engine is gone")]
    async with rig(large=lambda call: script, keepalive_seconds=SOON_SECONDS) as r:
        asyncio.get_running_loop().call_later(3 * SOON_SECONDS, thinking.set)
        response = await r.http.post(CHAT, json=chat(stream=True))
        assert response.status_code == 200
        _, [failure, done] = split(response.text)
        assert orjson.loads(failure.removeprefix("data: "))["error"]["code"] == "engine_unavailable"
        assert done == "data: [DONE]"
        [row] = await r.charges(1)
        assert (row["outcome"], row["code"]) == ("cut", "engine_unavailable")


async def test_a_stream_that_keeps_going_has_no_comments(rig: OpenRig) -> None:
    async with rig(large=lambda call: [Say("x")] * 50, keepalive_seconds=5) as r:
        assert COMMENT not in (await r.http.post(CHAT, json=chat(stream=True))).text


@pytest.mark.parametrize("include_usage", [True, False])
async def test_counts_come_once_in_an_event_of_their_own_and_only_when_asked_for(
    rig: OpenRig, include_usage: bool
) -> None:
    async with rig() as r:
        body = chat(stream=True, stream_options={"include_usage": include_usage})
        *events, done = events_of(await r.http.post(CHAT, json=body))
        assert done == "[DONE]"
        counted = [document for document in map(orjson.loads, events) if document.get("usage")]
        assert [document["choices"] for document in counted] == ([[]] if include_usage else [])
        if include_usage:
            assert orjson.loads(events[-1]) == counted[0]


@pytest.mark.parametrize("how", ["ends", "breaks off", "fails at once"])
async def test_done_is_said_once_at_the_end(rig: OpenRig, how: str) -> None:
    scripts: dict[str, Script] = {
        "ends": [Say("x")],
        "breaks off": [Say("x"), EngineCut("broke off")],
        "fails at once": [EngineUnavailable("gone")],
    }

    def play(call: Call) -> Script:
        return scripts[how]

    async with rig(large=play) as r:
        response = await r.http.post(CHAT, json=chat(stream=True))
        assert response.text.count("[DONE]") == (0 if how == "fails at once" else 1)
        assert response.status_code == (503 if how == "fails at once" else 200)


def split(text: str) -> tuple[int, list[str]]:
    """How many comments there are before the events, and the events."""
    lines = [line for line in text.split("\n\n") if line]
    events = [line for line in lines if line != COMMENT]
    return lines.index(events[0]), events
