"""Guardrails through the front door: what is refused calls nothing and costs nothing, what is masked reaches nobody."""

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from gateway.guardrails.rails import Rails
from gateway.settings import SettingsError, load_settings
from models.scripted import Say
from tests.gateway.wire import CHAT, OpenRig, chat, error_of, events_of
from tests.rig import say

pytestmark = pytest.mark.anyio

MASK = {"kind": "blocklist", "words": ["secret"], "action": "mask"}
REFUSE = {"kind": "blocklist", "words": ["secret"], "action": "refuse"}
PII = {"kind": "pii", "action": "mask"}
SECRET = [{"role": "user", "content": "the Secret of joe@example.com"}]


async def read(client: AsyncOpenAI, **body: Any) -> tuple[str, str]:
    """Text and finish reason of a stream, as the official client reads it."""
    text, finish = "", ""
    async for chunk in await client.chat.completions.create(model="small", stream=True, **body):
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    return text, finish


async def test_what_is_refused_calls_nobody_and_costs_nothing(rig: OpenRig) -> None:
    async with rig(guardrails=[REFUSE]) as r:
        with pytest.raises(BadRequestError) as refused:
            await r.client.chat.completions.create(model="small", messages=SECRET)  # type: ignore[arg-type]
        assert (refused.value.code, refused.value.param) == ("content_policy_violation", "messages")
        assert r.engines["small"].calls == []
        [row] = await r.charges(1)
        assert (row["outcome"], row["code"], row["attempts"]) == ("refused", "content_policy_violation", 0)
        assert row["cost_nano_usd"] is None


async def test_what_is_masked_never_reaches_the_engine(rig: OpenRig) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"to": "joe@example.com", "n": 1}'}}
    parts = {"role": "user", "content": [{"type": "text", "text": "joe@example.com"}]}
    messages = [*SECRET, {"role": "assistant", "content": None, "tool_calls": [call]}, parts]
    messages.append({"role": "tool", "tool_call_id": "c", "content": "sent to joe@example.com"})
    async with rig(guardrails=[MASK, PII]) as r:
        await r.http.post(CHAT, json={**chat("small"), "messages": messages, "user": "joe@example.com"})
        [seen] = r.engines["small"].calls
        assert seen.body["messages"][0]["content"] == "the [BLOCKED] of [EMAIL]"
        assert seen.body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"to":"[EMAIL]","n":1}'
        assert "example.com" not in str(seen.body)


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/completions", "prompt"), ("/v1/embeddings", "input")], ids=["completions", "embeddings"]
)
async def test_prompts_and_inputs_are_looked_at_and_token_ids_are_refused(rig: OpenRig, path: str, field: str) -> None:
    catalog = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 99, abilities: [chat, completions, embeddings]}
  - {name: large, engine: scripted, tier: 1, context_tokens: 99}
"""
    async with rig(guardrails=[{**MASK, "applies_to": ["request"]}], catalog=catalog) as r:
        await r.http.post(path, json={"model": "small", field: ["no", "secret"]})
        assert r.engines["small"].calls[0].body[field] == ["no", "[BLOCKED]"]
        refused = await r.http.post(path, json={"model": "small", field: [1, 2]})
        assert error_of(refused)["param"] == field


async def test_an_answer_is_masked_streamed_and_whole(rig: OpenRig) -> None:
    async with rig(guardrails=[MASK, PII], small=say("my sec", "ret is joe@exam", "ple.com, ", "honestly")) as r:
        body: Any = {"messages": [{"role": "user", "content": "x"}]}
        whole = await r.client.chat.completions.create(model="small", **body)
        assert whole.choices[0].message.content == "my [BLOCKED] is [EMAIL], honestly"
        assert await read(r.client, **body) == ("my [BLOCKED] is [EMAIL], honestly", "stop")


async def test_a_refused_answer_ends_with_a_content_filter_and_is_charged(rig: OpenRig) -> None:
    body: Any = {"messages": [{"role": "user", "content": "x"}]}
    async with rig(guardrails=[REFUSE], small=say("my sec", "ret is ", "told")) as r:
        whole = await r.client.chat.completions.create(model="small", **body)
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("", "content_filter")
        assert await read(r.client, **body) == ("my ", "content_filter")
        rows = await r.charges(2)
        assert [row["outcome"] for row in rows] == ["ok", "ok"]
        assert all(row["cost_nano_usd"] for row in rows)


async def test_a_refused_stream_of_another_protocol_ends_as_it_does_there(rig: OpenRig) -> None:
    async with rig(guardrails=[REFUSE], small=say("my sec", "ret is ", "told")) as r:
        body = {"model": "small", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9, "stream": True}
        response = await r.http.post("/v1/messages", json=body)
        assert '"stop_reason":"refusal"' in response.text
        assert "told" not in response.text


async def test_what_is_on_requests_only_lets_answers_pass_as_bytes(rig: OpenRig) -> None:
    async with rig(guardrails=[{**MASK, "applies_to": ["request"]}], small=lambda call: [Say("secret")]) as r:
        response = await r.http.post(CHAT, json=chat("small", stream=True))
        assert '"content":"secret"' in events_of(response)[0]


async def test_without_guardrails_there_is_none(rig: OpenRig) -> None:
    assert Rails.of(()) is None
    async with rig() as r:
        assert r.runtime.rails is None


def test_a_blocklist_may_stand_in_a_file_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# a comment\nsecret\n\n", encoding="utf-8")
    config = tmp_path / "pointsman.yaml"
    config.write_text("guardrails:\n  - {kind: blocklist, file: words.txt, action: refuse}\n", encoding="utf-8")
    [section] = load_settings(config=config).guardrails
    assert [finding.start for finding in section.rail().findings("a secret", 0)] == [2]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{kind: blocklist}", "a blocklist needs words"),
        ("{kind: blocklist, file: nowhere.txt}", "cannot be read"),
        ("{kind: pii, entities: [NAME]}", "EMAIL"),
        ("{kind: pii, entities: []}", "'entities' must name"),
        ("{kind: blocklist, words: [x], applies_to: []}", "'applies_to' must name"),
        ("{kind: oracle}", "blocklist"),
        (f"{{kind: blocklist, words: [{'x' * 101}]}}", "longer than"),
    ],
)
def test_a_guardrail_that_cannot_be_is_told_with_its_line(tmp_path: Path, written: str, said: str) -> None:
    config = tmp_path / "pointsman.yaml"
    config.write_text(f"port: 9000\nguardrails:\n  - {written}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=said) as refused:
        load_settings(config=config)
    assert f"{config}:3" in str(refused.value)
