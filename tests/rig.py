"""A whole gateway in the test's event loop: real uvicorn, real sockets, real SQLite; only the engines are scripted."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import uvicorn
from openai import AsyncOpenAI
from sqlalchemy import create_engine, select

from gateway.app import create_app
from gateway.builder import Builder, KnowledgeMaker, load_knowledge_for
from gateway.cache.embedding import EmbedMaker, local_embedder
from gateway.ledger.tables import charges
from gateway.protocol import Protocol
from gateway.runtime import Runtime
from gateway.settings import Settings
from models.engine import Call, Engine
from models.scripted import Say, Script, ScriptedEngine

CATALOG = """
models:
  - name: small
    engine: scripted
    tier: 0
    context_tokens: 1000
    price: {input_usd: "0.1", output_usd: "0.2"}
  - name: large
    engine: scripted
    tier: 1
    context_tokens: 2000
    price: {input_usd: "1", output_usd: "2"}
aliases:
  gpt-4o-mini: auto
"""
START_TIMEOUT_SECONDS = 60.0
SETTLE_TIMEOUT_SECONDS = 5.0

Playing = Callable[[Call], Script]


def say(*texts: str) -> Playing:
    """A script that answers every call with *texts*, a chunk each."""
    return lambda call: [Say(text) for text in texts]


NO_ENGINES: Mapping[str, Engine] = {}
SMALL, LARGE = say("small ", "answer"), say("large ", "answer")


@dataclass(frozen=True, slots=True)
class Rig:
    """`client` is the official SDK with retries off and a valid key, `http` a plain client with the same key."""

    base_url: str
    key: str
    client: AsyncOpenAI
    http: httpx2.AsyncClient
    runtime: Runtime
    builder: Builder
    engines: Mapping[str, ScriptedEngine]
    server: uvicorn.Server

    async def charges(self, count: int) -> list[dict[str, Any]]:
        """The ledger's rows, oldest first, once there are *count*; fails when there are fewer after a while or more."""
        async with asyncio.timeout(SETTLE_TIMEOUT_SECONDS):
            while len(rows := await anyio.to_thread.run_sync(self._rows)) < count:  # noqa: ASYNC110  # a database
                await asyncio.sleep(0.01)
        assert len(rows) == count, rows
        return rows

    async def metric(self, name: str, **labels: str) -> float:
        """The value of a metric as a scraper reads it now; 0 when it has not been counted yet."""
        return self.runtime.registry.get_sample_value(name, labels) or 0.0

    def _rows(self) -> list[dict[str, Any]]:
        database = create_engine(self.runtime.settings.database)
        try:
            with database.connect() as connection:
                return [dict(row._mapping) for row in connection.execute(select(charges).order_by(charges.c.at))]
        finally:
            database.dispose()


@asynccontextmanager
async def running_rig(
    folder: Path,
    *,
    small: Playing = SMALL,
    large: Playing = LARGE,
    catalog: str = CATALOG,
    others: Mapping[str, Engine] = NO_ENGINES,
    knowledge_maker: KnowledgeMaker = load_knowledge_for,
    embed_maker: EmbedMaker = local_embedder,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Start a gateway in *folder* on a free port; stop it, and everything it started, on leaving.

    *others* are engines of further rows of *catalog*.
    """
    catalog_path = folder / "catalog.yaml"
    catalog_path.write_text(catalog, encoding="utf-8")
    chosen = {"models": "all", "catalog": catalog_path, "data_dir": folder / "data", "cache_dir": folder / "cache"}
    engines = {"small": ScriptedEngine("small", small), "large": ScriptedEngine("large", large)}

    def scripted(*_: object) -> Mapping[str, Sequence[Engine]]:
        return {name: [engine] for name, engine in {**engines, **others}.items()}

    told = Settings(**{**chosen, **settings})
    app = create_app(
        told,
        engine_maker=scripted,
        knowledge_maker=knowledge_maker,
        embed_maker=embed_maker,
        load=lambda **_: told,  # a reload reads the catalogue anew, and nothing of this machine
    )
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server._serve([listener]))  # without uvicorn's signal handlers
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            while not server.started:
                assert not serving.done(), "the gateway did not start"
                await asyncio.sleep(0.005)
        runtime: Runtime = app.builder.runtime
        key, _ = await anyio.to_thread.run_sync(runtime.keys.create, "test")
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        authorization = {"authorization": f"Bearer {key}"}
        client = AsyncOpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=0)
        http = httpx2.AsyncClient(base_url=base_url, headers=authorization, timeout=30)
        try:
            async with client, http:
                yield Rig(base_url, key, client, http, runtime, app.builder, engines, server)
        finally:
            server.should_exit = True
            await serving
