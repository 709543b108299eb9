"""What every test may use: `rig`, a whole gateway with scripted engines behind a real port, and the anyio backend."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.rig import Rig, running_rig


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def rig(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Rig]]:
    """`async with rig(small=script, large=script, **settings) as r:`, see `tests.rig`."""

    @asynccontextmanager
    async def opened(**arguments: object) -> AsyncIterator[Rig]:
        async with running_rig(tmp_path, **arguments) as running:  # type: ignore[arg-type]  # passed on as given
            yield running

    return opened
