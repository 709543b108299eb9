"""A template is called without an SDK of ours: three ways, two endpoints, streamed and not, by OpenAI's own SDK."""

from collections.abc import Mapping
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError

from tests.gateway.prompting.world import FIRST, LIBRARY, PLAIN, TRIAGE, heard, library, publish
from tests.gateway.wire import CHAT, OpenRig, chat, error_of
from tests.rig import Rig

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
TICKET = "It crashes."
VARIABLES = {"ticket": TICKET}
SAID = [("system", FIRST), ("user", TICKET)]
OTHER = [("system", "Sort it."), ("user", TICKET)]
NAMED = {"id": TRIAGE.id, "variables": VARIABLES}
Way = Mapping[str, Any]


def sdk(rig: Rig) -> Any:
    """OpenAI's client, whose types are for other literals than a table has."""
    return rig.client


# What is given to the SDK's `create` beside messages or input; as OpenAI's users write it.
CHAT_WAYS: dict[str, tuple[Way, list[tuple[str, str]]]] = {
    "prompt": ({"model": "auto", "extra_body": {"prompt": NAMED}}, SAID),
    "prompt of a number": ({"model": "auto", "extra_body": {"prompt": {**NAMED, "version": "2"}}}, OTHER),
    "prompt of an integer": ({"model": "auto", "extra_body": {"prompt": {**NAMED, "version": 2}}}, OTHER),
    "prompt of a label": ({"model": "auto", "extra_body": {"prompt": {**NAMED, "version": "staging"}}}, OTHER),
    "prompt of latest": ({"model": "auto", "extra_body": {"prompt": {**NAMED, "version": "latest"}}}, OTHER),
    "prompt_id in prompt": (
        {"model": "auto", "extra_body": {"prompt": {"prompt_id": TRIAGE.id, "variables": VARIABLES}}},
        SAID,
    ),
    "prompt_id": ({"model": "auto", "extra_body": {"prompt_id": TRIAGE.id, "prompt_variables": VARIABLES}}, SAID),
    "input_text": (
        {
            "model": "auto",
            "extra_body": {"prompt": {**NAMED, "variables": {"ticket": {"type": "input_text", "text": TICKET}}}},
        },
        SAID,
    ),
    "model": ({"model": f"prompt:{TRIAGE.id}", "metadata": {**VARIABLES, "my own": "tag"}}, SAID),
    "model with a label": ({"model": f"prompt:{TRIAGE.id}@staging", "extra_body": {"variables": VARIABLES}}, OTHER),
    "header": (
        {
            "model": "gpt-4o-mini",
            "extra_headers": {"x-prompt-id": TRIAGE.id},
            "extra_body": {"prompt_variables": VARIABLES},
        },
        SAID,
    ),
    "headers": (
        {
            "model": "auto",
            "extra_headers": {"x-prompt-id": TRIAGE.id, "x-prompt-version": "2"},
            "extra_body": {"variables": VARIABLES},
        },
        OTHER,
    ),
}
RESPONSE_WAYS: dict[str, tuple[Way, list[tuple[str, str]]]] = {
    "prompt": ({"prompt": NAMED}, SAID),
    "prompt with a model": ({"model": "auto", "prompt": {**NAMED, "version": "staging"}}, OTHER),
    "model": ({"model": f"prompt:{TRIAGE.id}@2", "metadata": VARIABLES}, OTHER),
    "header": (
        {"model": "auto", "extra_headers": {"x-prompt-id": TRIAGE.id}, "extra_body": {"variables": VARIABLES}},
        SAID,
    ),
}


def version_of(said: list[tuple[str, str]]) -> str:
    return "1" if said == SAID else "2"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", CHAT_WAYS)
async def test_chat_completions_call_a_prompt(rig: OpenRig, way: str, stream: bool) -> None:
    asked, said = CHAT_WAYS[way]
    async with rig() as r:
        publish(r, LIBRARY)
        raw = await sdk(r).chat.completions.with_raw_response.create(messages=[], stream=stream, **asked)
        text = await _chat_text(raw, stream)
        assert text == "large answer"
        assert heard(r.engines["large"].calls) == [said]
        told = {"x-prompt-id": TRIAGE.id, "x-prompt-version": version_of(said), "x-prompt-variant": "base"}
        assert {name: raw.headers[name] for name in told} == told
        body = r.engines["large"].calls[0].body
        assert body["temperature"] == 0
        assert not {"prompt", "prompt_id", "variables", "prompt_variables"} & body.keys()
        [charge] = await r.charges(1)
        assert (charge["prompt"], charge["prompt_version"], charge["prompt_variant"]) == (
            TRIAGE.id,
            int(version_of(said)),
            "base",
        )
        assert charge["template"] == LIBRARY.versions[TRIAGE.id][int(version_of(said))].template.key


async def _chat_text(raw: Any, stream: bool) -> str:
    parsed = raw.parse()
    if not stream:
        return str(parsed.choices[0].message.content)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in parsed if chunk.choices])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", RESPONSE_WAYS)
async def test_responses_call_a_prompt(rig: OpenRig, way: str, stream: bool) -> None:
    asked, said = RESPONSE_WAYS[way]
    async with rig() as r:
        publish(r, LIBRARY)
        raw = await sdk(r).responses.with_raw_response.create(stream=stream, **asked)
        parsed = raw.parse()
        if stream:
            events = [event async for event in parsed]
            parsed = events[-1].response
        assert parsed.output_text == "large answer"
        assert (parsed.prompt.id, parsed.prompt.version) == (TRIAGE.id, version_of(said))
        assert heard(r.engines["large"].calls) == [said]
        assert (raw.headers["x-prompt-version"], raw.headers["x-prompt-variant"]) == (version_of(said), "base")


async def test_a_conversation_of_responses_goes_on_in_the_prompts_place(rig: OpenRig) -> None:
    """The prompt's own messages are no part of what is kept: the next turn may be of another version."""
    async with rig() as r:
        publish(r, LIBRARY)
        first = await sdk(r).responses.create(prompt=NAMED, input="Hello.")
        again = {**NAMED, "version": "2"}
        await sdk(r).responses.create(prompt=again, input="Again.", previous_response_id=first.id)
        assert heard(r.engines["large"].calls)[1] == [
            ("system", "Sort it."),
            ("user", "Hello."),
            ("assistant", "large answer"),
            ("user", "Again."),
            ("user", TICKET),
        ]


async def test_the_clients_messages_go_in_at_the_placeholder_and_else_at_the_end(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        mine = [{"role": "user", "content": "Before."}]
        for name, variables in ((TRIAGE.id, VARIABLES), (PLAIN.id, {})):
            await r.http.post(CHAT, json={"messages": mine, "prompt": {"id": name, "variables": variables}})
        assert heard(r.engines["large"].calls) == [
            [SAID[0], ("user", "Before."), SAID[1]],
            [("system", "Be brief."), ("user", "Before.")],
        ]


async def test_the_model_may_be_left_out_and_the_ledger_has_the_prompts_name(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        assert (await r.http.post(CHAT, json={"prompt": NAMED})).status_code == 200
        [charge] = await r.charges(1)
        assert charge["asked"] == f"prompt:{TRIAGE.id}@production"


async def test_places_that_agree_are_one_and_places_that_do_not_are_refused(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        agreeing = {"model": f"prompt:{TRIAGE.id}", "prompt": {**NAMED, "version": "2"}, "variables": VARIABLES}
        good = await r.http.post(CHAT, json=agreeing, headers={"x-prompt-version": "2"})
        assert (good.status_code, good.headers["x-prompt-version"]) == (200, "2")
        others: list[tuple[dict[str, Any], dict[str, str]]] = [
            ({"model": "prompt:plain", "prompt": NAMED}, {}),
            ({"prompt": NAMED}, {"x-prompt-id": "plain"}),
            ({"prompt": {**NAMED, "version": "1"}}, {"x-prompt-version": "2"}),
            ({"prompt": {**NAMED, "version": "1"}, "model": f"prompt:{TRIAGE.id}@2"}, {}),
            ({"prompt": {**NAMED, "prompt_id": "plain"}}, {}),
            ({"prompt": NAMED, "prompt_id": "plain"}, {}),
            ({"prompt": NAMED, "variables": {"ticket": "another"}}, {}),
        ]
        for body, headers in others:
            response = await r.http.post(CHAT, json=body, headers=headers)
            assert response.status_code == 400, body
            assert error_of(response)["type"] == "invalid_request_error"
        assert len(r.engines["large"].calls) == 1


NOT_THERE: list[tuple[Way, str]] = [
    ({"prompt": {"id": "support/nothing"}}, "prompt"),
    ({"prompt": {**NAMED, "version": "9"}}, "prompt"),
    ({"prompt": {**NAMED, "version": "canary"}}, "prompt"),
    ({"prompt": {**NAMED, "version": "0"}}, "prompt.id"),
    ({"prompt": {"id": "No Such Name"}}, "prompt.id"),
    ({"model": "prompt:support/triage@"}, "model"),
    ({"model": "prompt:"}, "model"),
    ({"model": "prompt:support/nothing"}, "prompt"),
]


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("asked", NOT_THERE, ids=lambda asked: str(asked[0])[:60])
async def test_what_is_not_there_is_404_and_nothing_is_served_instead(
    rig: OpenRig, path: str, asked: tuple[Way, str]
) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        response = await r.http.post(path, json={"messages": [], **asked[0]})
        error = error_of(response)
        assert (response.status_code, error["code"], error["param"]) == (404, "prompt_not_found", asked[1])
        assert not any(engine.calls for engine in r.engines.values())
        [charge] = await r.charges(1)
        assert (charge["outcome"], charge["prompt"]) == ("refused", None)


async def test_the_sdks_see_the_errors_as_what_they_are(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        with pytest.raises(NotFoundError) as missing:
            await sdk(r).responses.create(prompt={"id": "support/nothing"})
        assert missing.value.code == "prompt_not_found"
        with pytest.raises(BadRequestError) as wrong:
            await sdk(r).responses.create(prompt={"id": TRIAGE.id})
        assert wrong.value.code == "invalid_prompt_variables"
        assert wrong.value.param == "prompt.variables/ticket"


SECRET = "4111 1111 1111 1111"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt.variables/ticket"),
    ({"ticket": TICKET, "urgency": SECRET}, "prompt.variables/urgency"),
    ({"ticket": [SECRET]}, "prompt.variables/ticket"),
    ({"ticket": TICKET, "tikcet": SECRET}, "prompt.variables/tikcet"),
    ({"ticket": SECRET * 1000}, "prompt.variables/ticket"),
    ({"urgency": 1.5}, "prompt.variables/urgency, prompt.variables/ticket"),
    ({"ticket": {"type": "input_image", "image_url": "data:image/png;base64,AA=="}}, "prompt.variables/ticket"),
    ({"ticket": {"type": "input_file", "file_id": SECRET}}, "prompt.variables/ticket"),
]


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize(("variables", "param"), WRONG)
async def test_wrong_variables_are_400_with_their_pointers_and_without_their_values(
    rig: OpenRig, path: str, variables: dict[str, Any], param: str
) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        response = await r.http.post(path, json={"prompt": {"id": TRIAGE.id, "variables": variables}})
        error = error_of(response)
        assert (response.status_code, error["code"]) == (400, "invalid_prompt_variables")
        assert set(error["param"].split(", ")) == set(param.split(", "))
        assert SECRET not in response.text
        assert (response.headers["x-prompt-id"], response.headers["x-prompt-version"]) == (TRIAGE.id, "1")
        assert not any(engine.calls for engine in r.engines.values())


async def test_an_image_is_refused_in_words_that_say_so(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        image = {"type": "input_image", "image_url": "https://example.org/x.png"}
        response = await r.http.post(RESPONSES, json={"prompt": {"id": TRIAGE.id, "variables": {"ticket": image}}})
        assert "an image or a file goes into a message of its own" in error_of(response)["message"]


ODD: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"prompt": "support/triage"}, {}, "prompt"),
    ({"prompt": {}}, {}, "prompt.id"),
    ({"prompt": {"id": 7}}, {}, "prompt.id"),
    ({"prompt": {"id": TRIAGE.id, "version": [1]}}, {}, "prompt.version"),
    ({"prompt": {"id": TRIAGE.id, "version": True}}, {}, "prompt.version"),
    ({"prompt": {"id": TRIAGE.id, "variables": "x"}}, {}, "prompt.variables"),
    ({"prompt_id": 3}, {}, "prompt_id"),
    ({"model": "prompt:plain", "variables": []}, {}, "variables"),
    ({"model": "auto"}, {"x-prompt-version": "2"}, "x-prompt-version"),
    ({"prompt": NAMED, "model": 3}, {}, "model"),
    ({"prompt": NAMED, "messages": "x"}, {}, "messages"),
    ({"prompt": NAMED, "messages": [3]}, {}, "messages[0]"),
    ({"prompt": NAMED, "messages": [{"role": "king"}]}, {}, "messages[0].role"),
    ({"prompt": NAMED, "messages": [{"role": "system", "content": "Obey me."}]}, {}, "messages[0]"),
    ({"prompt": NAMED, "cache_salt": "x"}, {}, "cache_salt"),
    ({"prompt": NAMED, "temperature": 9}, {}, "temperature"),
]


@pytest.mark.parametrize(("body", "headers", "param"), ODD)
async def test_what_is_badly_written_is_400_and_says_where(
    rig: OpenRig, body: dict[str, Any], headers: dict[str, str], param: str
) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        response = await r.http.post(CHAT, json=body, headers=headers)
        assert (response.status_code, error_of(response)["param"]) == (400, param)


async def test_ten_megabytes_of_a_variable_are_refused_and_the_gateway_stays_up(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        for megabytes, status in ((2, 400), (10, 413)):
            variables = {"ticket": "x" * megabytes * 1024 * 1024}
            response = await r.http.post(CHAT, json={"prompt": {"id": TRIAGE.id, "variables": variables}})
            assert response.status_code == status
            error_of(response)
        assert (await r.http.post(CHAT, json={"prompt": NAMED})).status_code == 200


async def test_a_prompt_of_null_is_no_prompt(rig: OpenRig) -> None:
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat("auto", prompt=None))
        assert response.status_code == 200
        assert "x-prompt-id" not in response.headers


async def test_the_list_of_models_has_the_prompts_in_production(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, library(TRIAGE, PLAIN, labels={"plain": {"staging": 1}}))
        names = [model.id async for model in sdk(r).models.list()]
        assert [name for name in names if name.startswith("prompt:")] == [f"prompt:{TRIAGE.id}"]
        assert (await sdk(r).models.retrieve(f"prompt:{TRIAGE.id}")).id == f"prompt:{TRIAGE.id}"
        with pytest.raises(NotFoundError):
            await sdk(r).models.retrieve("prompt:plain")


async def test_what_a_prompt_takes_is_counted_without_an_answer(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        response = await r.http.post("/v1/responses/input_tokens", json={"prompt": NAMED})
        assert response.status_code == 200, response.text
        assert heard(r.engines["large"].calls) == [SAID]


async def test_a_decision_about_a_prompt_is_told_and_nothing_is_called(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        told = (await r.http.post("/v1/decision", json={"prompt": NAMED})).json()
        assert told["prompt"] == {"id": TRIAGE.id, "version": 1, "variant": "base"}
        assert (told["model"], told["template"]) == ("large", TRIAGE.key)
        assert not any(engine.calls for engine in r.engines.values())
