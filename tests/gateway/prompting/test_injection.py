"""Through the whole gateway: whatever variables hold, an engine hears the template's messages, roles and order."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prompts.template import Text
from tests.gateway.prompting.world import LIBRARY, TRIAGE, publish
from tests.gateway.wire import CHAT
from tests.prompts.test_injection import hostile
from tests.rig import running_rig

VARIABLES = st.fixed_dictionaries({"ticket": hostile.map(lambda text: text[:8000]), "product": hostile})
FORMS = ("prompt", "model", "header", "responses")
FIXED = [(part.role, part) for part in TRIAGE.messages if isinstance(part, Text)]


@given(said=st.lists(st.tuples(VARIABLES, st.sampled_from(FORMS)), min_size=1, max_size=20))
@examples(max_examples=25)
def test_no_variable_makes_a_message_a_role_or_an_expression(
    said: list[tuple[dict[str, str], str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def ask() -> list[list[dict[str, Any]]]:
        async with running_rig(tmp_path_factory.mktemp("gateway")) as r:
            publish(r, LIBRARY)
            for variables, form in said:
                path, body, headers = asked(form, variables)
                answer = await r.http.post(path, json=body, headers=headers)
                assert answer.status_code == 200, answer.text
            return [call.body["messages"] for call in r.engines["large"].calls]

    heard = asyncio.run(ask())
    assert len(heard) == len(said)
    for messages, (variables, _) in zip(heard, said, strict=True):
        assert [message["role"] for message in messages] == [role for role, _ in FIXED]
        assert all(message.keys() == {"role", "content"} for message in messages)
        product = f"Answer bug, billing or question. Product: {variables['product']}."
        assert [message["content"] for message in messages] == [product, variables["ticket"]]


def asked(form: str, variables: dict[str, str]) -> tuple[str, dict[str, Any], dict[str, str]]:
    prompt = {"id": TRIAGE.id, "variables": variables}
    match form:
        case "prompt":
            return CHAT, {"prompt": prompt}, {}
        case "model":
            return CHAT, {"model": f"prompt:{TRIAGE.id}", "metadata": variables}, {}
        case "header":
            return CHAT, {"model": "auto", "prompt_variables": variables}, {"x-prompt-id": TRIAGE.id}
        case _:
            return "/v1/responses", {"prompt": prompt, "store": False}, {}
