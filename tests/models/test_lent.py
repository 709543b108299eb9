"""An engine that another process runs: called where it is now, given back once."""

import orjson
import pytest

from models.catalog import Model
from models.engine import Call, EngineState, EngineUnavailable, Health
from models.lent import LentEngine
from models.process import Place
from tests.fakes import FakeUpstream
from tests.models.vllm.test_readings import READ, SAID, http, saying

pytestmark = pytest.mark.anyio

MODEL = Model(name="small", engine="scripted", tier=0, context_tokens=100)
CALL = Call({"messages": [{"role": "user", "content": "hi"}]})
READY = Health(EngineState.READY, restarts=1)


def answering(text: str) -> FakeUpstream:
    body = orjson.dumps({"object": "chat.completion", "choices": [{"message": {"content": text}}], "model": "x"})
    return FakeUpstream(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body)


def place(server: FakeUpstream, key: str) -> Place:
    return Place(server.base_url.removesuffix("/v1"), key)


async def test_it_is_called_where_it_is_now_with_the_key_of_that_place() -> None:
    engine = LentEngine(MODEL, lambda: None)
    async with answering("one") as one, answering("two") as two:
        for server, key in ((one, "first"), (two, "second")):
            engine.told(READY, place(server, key))
            reply = await engine.begin(CALL)
            assert orjson.loads(reply.first)["model"] == "small"
            await reply.close()
            [request] = server.requests
            assert request.headers["authorization"] == f"Bearer {key}"
        await engine.stop()


async def test_while_it_cannot_be_called_another_model_may_be_tried() -> None:
    engine = LentEngine(MODEL, lambda: None)
    assert engine.health().state is EngineState.STARTING
    async with answering("one") as server:
        engine.told(READY, place(server, "key"))
        engine.told(Health(EngineState.RESTARTING, "its process ended", 2), None)
        with pytest.raises(EngineUnavailable, match="restarting"):
            await engine.begin(CALL)
        assert engine.health() == Health(EngineState.RESTARTING, "its process ended", 2)


async def test_it_is_given_back_once() -> None:
    given_back: list[str] = []
    engine = LentEngine(MODEL, lambda: given_back.append("small"))
    await engine.start()
    await engine.stop()
    await engine.stop()
    assert given_back == ["small"]
    assert engine.health().state is EngineState.STOPPED


async def test_what_a_server_of_vllm_says_of_itself_is_read_at_its_place() -> None:
    """By each process of ours that is scraped; other engines' servers are not asked."""
    folder = {"sha256": "0123456789abcdef" * 4, "size_bytes": 1, "sources": [{"folder": "/m"}]}
    row = Model.model_validate({**MODEL.model_dump(), "engine": "vllm", "checkpoint": folder})
    async with saying(http(SAID)) as address:
        for model, read in ((row, READ), (MODEL, None)):
            engine = LentEngine(model, lambda: None)
            assert await engine.readings() is None
            engine.told(READY, Place(address, "key"))
            assert await engine.readings() == read
            await engine.stop()
