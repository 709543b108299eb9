"""Whatever lines an input has: it fails with the wrong ones named, or each request has one line in the end."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Batch

from gateway.batching import runner
from models.engine import Call, EngineBusy, EngineRefused, EngineUnavailable
from models.scripted import Say, Script, Step
from tests.gateway.batching.test_runner import asking, create, ended, line, results
from tests.rig import Rig, running_rig

STEPS: dict[str, Step] = {
    "good": Say("x"),
    "refused": EngineRefused("no", status=400),
    "cut": EngineRefused("no", status=422),
}


class Mood:
    """An engine that does what the prompt says; one that is busy or gone is there at the second try."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def play(self, call: Call) -> Script:
        text = call.body["messages"][0]["content"]
        self.asked[text] += 1
        if text.startswith("busy") and self.asked[text] == 1:
            return [EngineBusy("full", retry_after_seconds=0.001)]
        if text.startswith("gone") and self.asked[text] == 1:
            return [EngineUnavailable("gone", retry_after_seconds=0.001)]
        return [STEPS.get(text.partition(" ")[0], Say("x"))]


class Served:
    """A gateway whose event loop runs while an example is tried, for examples that arrive one after the other."""

    def __init__(self, rig: Rig, loop: asyncio.Runner) -> None:
        self._rig = rig
        self._loop = loop

    def answer(self, content: bytes) -> tuple[Batch, Counter[str]]:
        """The batch at its end, and how many lines each custom id has."""

        async def answer() -> tuple[Batch, Counter[str]]:
            client = self._rig.client
            batch = await ended(client, (await create(client, content)).id)
            output, errors = await results(client, batch)
            return batch, Counter(one["custom_id"] for one in (*output, *errors))

        return self._loop.run(answer())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as loop:
        patch.setattr(runner, "BACKOFF_SECONDS", 0.001)
        patch.setattr(runner, "_retry_after_seconds", lambda returned: 0.001)
        opened = running_rig(tmp_path_factory.mktemp("served"), large=Mood().play)
        yield Served(loop.run(opened.__aenter__()), loop)
        loop.run(opened.__aexit__(None, None, None))


ids = st.text(min_size=1, max_size=6)
requests = st.dictionaries(
    ids, st.sampled_from(["good", "refused", "cut", "busy", "gone", "no body", "no model"]), max_size=6
)
broken = st.sampled_from([b"{", b"[]", b"null", line(""), line("x", url="/v1/embeddings"), b'{"custom_id": "y"}'])


def written(custom_id: str, kind: str) -> bytes:
    match kind:
        case "no body":
            return line(custom_id, model="large")
        case "no model":
            return line(custom_id, **{**asking("x"), "model": "nobody"})
        case _:
            return line(custom_id, **asking(f"{kind} {custom_id}"))


@settings(max_examples=25)
@given(good=requests, bad=st.lists(broken, max_size=2), twice=st.booleans())
def test_each_request_has_one_line_or_the_input_fails(
    served: Served, good: dict[str, str], bad: list[bytes], twice: bool
) -> None:
    lines = [written(custom_id, kind) for custom_id, kind in good.items()]
    if twice and lines:
        bad = [*bad, lines[0]]
    batch, counted = served.answer(b"\n".join([*lines, *bad]) or b"\n")
    if bad or not lines:
        assert (batch.status, counted) == ("failed", {})
        assert batch.errors is not None
        named = {one.line for one in batch.errors.data or [] if one.line is not None}
        assert len(named) == len(bad)
    else:
        assert (batch.status, batch.errors) == ("completed", None)
        assert counted == dict.fromkeys(good, 1)
