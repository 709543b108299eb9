"""A second caller, for tests of who may see what."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
import httpx2
from openai import AsyncOpenAI

from tests.rig import Rig


@asynccontextmanager
async def another_caller(r: Rig) -> AsyncIterator[AsyncOpenAI]:
    """The official client with another valid key."""
    key, _ = await anyio.to_thread.run_sync(r.runtime.keys.create, "another")
    async with AsyncOpenAI(base_url=f"{r.base_url}/v1", api_key=key, max_retries=0) as client:
        yield client


@asynccontextmanager
async def another_http(r: Rig) -> AsyncIterator[httpx2.AsyncClient]:
    """A plain client with another valid key."""
    key, _ = await anyio.to_thread.run_sync(r.runtime.keys.create, "another")
    async with httpx2.AsyncClient(base_url=r.base_url, headers={"authorization": f"Bearer {key}"}) as client:
        yield client
