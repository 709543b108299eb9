"""The real weights: what they say of texts, and what the engine around them promises."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import BadRequestError, NotFoundError

from models.catalog import Model, load_catalog
from models.embedder import Embedder, Vectors
from models.embedder_engine import INLINE_CHARACTERS, PIECE_CHARACTERS, PIECE_TEXTS, EmbedderEngine
from models.engine import (
    Call,
    ContextTooLong,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Operation,
    Reply,
    Usage,
)
from models.packages import PackageMissing
from tests.rig import CATALOG, running_rig

ROW = load_catalog().models["wordllama-l2-256"]
START_TIMEOUT_SECONDS = 30.0
ROUNDING = 1e-6  # of 32-bit numbers
# a sentence, one that means about the same in other words, one about something else
PAIRS = [
    ("How do I reset my password?", "I forgot my login credentials, how can I recover them?", "How do I bake bread?"),
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch.", "Interest rates rose by half a point."),
    ("What is the capital of France?", "Name the city where the French government sits.", "Sort a list in Python."),
    ("The stock market fell sharply.", "Shares plunged in heavy trading.", "She plays the violin beautifully."),
    ("My order has not arrived yet.", "The package I bought was never delivered.", "The recipe needs two eggs."),
    ("Translate this into German.", "Give me the German version of this text.", "Is it going to rain tomorrow?"),
]
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    assert ROW.package is not None
    return Embedder.load(ROW.package)


@asynccontextmanager
async def ready(row: Model = ROW) -> AsyncIterator[EmbedderEngine]:
    engine = EmbedderEngine(row)
    await engine.start()
    try:
        await until_loaded(engine)
        yield engine
    finally:
        await engine.stop()


async def until_loaded(engine: EmbedderEngine) -> None:
    async with asyncio.timeout(START_TIMEOUT_SECONDS):
        while engine.health().state is EngineState.STARTING:  # noqa: ASYNC110  # its state is all that tells
            await asyncio.sleep(0.005)


async def ask(engine: EmbedderEngine, given: Any, **fields: Any) -> Reply:
    return await engine.begin(Call({"model": "any", "input": given, **fields}, operation=Operation.EMBEDDING))


def answer(reply: Reply) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(reply.first)
    return document


def vectors(reply: Reply) -> Vectors:
    return np.array([item["embedding"] for item in answer(reply)["data"]], dtype=np.float32)


# The vectors


@pytest.mark.parametrize(("one", "alike", "other"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_a_paraphrase_is_nearer_than_another_subject(embedder: Embedder, one: str, alike: str, other: str) -> None:
    vector, near, far = embedder.embed([one, alike, other])

    assert vector @ near > vector @ far + 0.1


@given(some=st.lists(any_text, min_size=1, max_size=8), dimensions=st.sampled_from([64, 128, 256]))
def test_every_text_has_a_vector_of_length_one_that_its_neighbours_do_not_change(
    embedder: Embedder, some: list[str], dimensions: int
) -> None:
    together = embedder.embed(some, dimensions)

    assert together.shape == (len(some), dimensions)
    assert np.array_equal(together, np.concatenate([embedder.embed([text], dimensions) for text in some]))
    lengths = np.linalg.norm(together, axis=1)
    assert np.allclose(lengths, [1.0 if text else 0.0 for text in some], atol=ROUNDING)


def test_fewer_dimensions_are_the_first_of_more_and_still_tell_texts_apart(embedder: Embedder) -> None:
    whole, short = embedder.embed([PAIRS[0][0]])[0], embedder.embed([PAIRS[0][0]], 64)[0]

    assert np.allclose(short, whole[:64] / np.linalg.norm(whole[:64]), atol=ROUNDING)
    one, alike, other = embedder.embed(PAIRS[1], 64)
    assert one @ alike > one @ other


@pytest.mark.parametrize("package", ["nobody-has-this==1.0", "wordllama==0.0.1"])
def test_weights_of_another_version_are_not_taken_for_those_of_the_row(package: str) -> None:
    with pytest.raises(PackageMissing, match=r"nobody-has-this is not installed|the catalogue says 0\.0\.1"):
        Embedder.load(package)


# The engine


@pytest.mark.anyio
async def test_an_answer_is_openais_with_the_tokens_counted() -> None:
    async with ready() as engine:
        reply = await ask(engine, ["Hello world", "Hello"])
        document = answer(reply)

        assert {key: document[key] for key in ("object", "model", "usage")} == {
            "object": "list",
            "model": ROW.name,
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }
        assert [(item["object"], item["index"]) for item in document["data"]] == [("embedding", 0), ("embedding", 1)]
        assert reply.usage == Usage(3, 0)
        assert reply.engine_seconds is not None
        assert reply.engine_seconds > 0
        assert await reply.more() == b""
        await reply.close()


@pytest.mark.anyio
async def test_texts_of_every_script_keep_their_order_however_many_there_are(embedder: Embedder) -> None:
    alphabet = ["naïve café", "日本語の文", "👩‍👩‍👧 family", "שלום", "a\u0000b", " ", "\n", "<s>", "ﷺ"]
    many = [f"{alphabet[place % len(alphabet)]} {place}" for place in range(2 * PIECE_TEXTS + 1)]
    long = ["word " * (PIECE_CHARACTERS // 5 + 1), "short", "other " * 100]
    async with ready() as engine:
        for some in (alphabet, many, long):
            reply = await ask(engine, some)

            assert np.array_equal(vectors(reply), embedder.embed(some))
            assert [item["index"] for item in answer(reply)["data"]] == list(range(len(some)))
            assert reply.usage == Usage(sum(map(len, embedder.tokens(some))), 0)


@pytest.mark.anyio
async def test_base64_holds_the_same_numbers_as_floats() -> None:
    async with ready() as engine:
        floats = vectors(await ask(engine, "Hello", dimensions=128))[0]
        packed = answer(await ask(engine, "Hello", dimensions=128, encoding_format="base64"))["data"][0]["embedding"]

        assert np.array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), floats)
        assert floats.shape == (128,)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"dimensions": 100}, "dimensions"),
        ({"dimensions": 512}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
async def test_what_cannot_be_embedded_is_a_400_that_names_the_field(fields: dict[str, Any], param: str) -> None:
    async with ready() as engine:
        with pytest.raises(EngineRefused) as refused:
            await ask(engine, **{"given": "a", **{"given" if k == "input" else k: v for k, v in fields.items()}})

    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.anyio
@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.COMPLETION])
async def test_it_answers_nothing_but_embeddings(operation: Operation) -> None:
    async with ready() as engine:
        with pytest.raises(EngineRefused, match="makes embeddings") as refused:
            await engine.begin(Call({"messages": []}, operation=operation))

    assert refused.value.status == 400


@pytest.mark.anyio
async def test_a_text_fills_the_context_and_not_more() -> None:
    async with ready(ROW.model_copy(update={"context_tokens": 8})) as engine:
        assert (await ask(engine, "a " * 7 + "a")).usage == Usage(8, 0)
        for far in ("a " * 8 + "a", "a" * INLINE_CHARACTERS, "word " * PIECE_CHARACTERS):
            with pytest.raises(ContextTooLong, match=r"input\[1\] has (9|\d+|more than 8) tokens") as refused:
                await ask(engine, ["fits", far])
            assert refused.value.param == "input"


@pytest.mark.anyio
async def test_large_work_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a large request, and no small one, go through threads."""
    handed_over = 0
    run_sync = anyio.to_thread.run_sync

    async def counted(*arguments: Any) -> Any:
        nonlocal handed_over
        handed_over += 1
        return await run_sync(*arguments)

    async with ready() as engine:
        monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
        await ask(engine, "short")
        assert handed_over == 0
        await ask(engine, ["a"] * (PIECE_TEXTS * 3))
        assert handed_over == 3
        await ask(engine, ["word " * 1000] * 8)
        assert handed_over == 5


@pytest.mark.anyio
async def test_it_is_ready_once_loaded_and_gone_once_stopped() -> None:
    engine = EmbedderEngine(ROW)
    assert engine.health().state is EngineState.STOPPED
    await engine.start()
    assert engine.health().state is EngineState.STARTING
    with pytest.raises(EngineUnavailable, match="starting"):
        await ask(engine, "a")
    await engine.stop()
    await engine.stop()
    assert engine.health().state is EngineState.STOPPED

    async with ready() as engine:
        assert engine.health().state is EngineState.READY
        assert engine.embedder is not None
    with pytest.raises(EngineUnavailable, match="stopped"):
        await ask(engine, "a")


@pytest.mark.anyio
async def test_a_package_that_is_not_installed_fails_it_with_the_remedy() -> None:
    async with ready(ROW.model_copy(update={"package": "nobody-has-this==1.0"})) as engine:
        health = engine.health()
        with pytest.raises(EngineUnavailable, match="failed"):
            await ask(engine, "a")

    assert health.state is EngineState.FAILED
    assert "nobody-has-this is not installed" in health.detail
    assert "pip install 'pointsman[embedder]'" in health.detail


# Through the front door

SERVED = CATALOG.replace(
    "aliases:",
    f"""  - name: {ROW.name}
    engine: embedder
    package: {ROW.package}
    tier: 0
    context_tokens: 8192
    abilities: [embeddings]
    price: {{hour_usd: "3600"}}
aliases:""",
)


@pytest.mark.anyio
async def test_the_official_client_gets_vectors_and_their_cost_is_charged(tmp_path: Path, embedder: Embedder) -> None:
    engine, texts = EmbedderEngine(ROW), ["Hello world", "日本語"]
    async with running_rig(tmp_path, catalog=SERVED, others={ROW.name: engine}) as rig:
        await until_loaded(engine)
        for model in (ROW.name, "auto"):  # the client asks for base64 by itself
            got = await rig.client.embeddings.create(model=model, input=texts, dimensions=64)
            assert np.array_equal(
                np.array([item.embedding for item in got.data], dtype=np.float32),
                embedder.embed(texts, 64),
            )
            assert got.model == ROW.name
        with pytest.raises(BadRequestError) as refused:
            await rig.client.embeddings.create(model=ROW.name, input=[1, 2])
        assert refused.value.param == "input"
        with pytest.raises(BadRequestError) as long:
            await rig.client.embeddings.create(model=ROW.name, input="word " * 9000)
        assert (long.value.code, long.value.param) == ("context_length_exceeded", "input")
        with pytest.raises(BadRequestError, match="ability chat"):
            await rig.client.chat.completions.create(model=ROW.name, messages=[{"role": "user", "content": "a"}])
        with pytest.raises(NotFoundError):
            await rig.client.embeddings.create(model="text-embedding-3-small", input="a")
        first = (await rig.charges(6))[0]

    counted = sum(map(len, embedder.tokens(texts)))
    assert (first["model"], first["prompt_tokens"], first["completion_tokens"]) == (ROW.name, counted, 0)
    assert first["cost_nano_usd"] > 0
