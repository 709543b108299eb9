"""What every test may use: `rig`, a whole gateway with scripted engines behind a real port; `gateway`, one with the
real models; and the anyio backend.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.real.server import Server, serving
from tests.rig import Rig, running_rig

# A busy machine is not a broken promise: pytest's own time limit ends what hangs.
settings.register_profile("pointsman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pointsman")

# What is tested where torch is: `.venv-torch/bin/python -m pytest --confcutdir=tests/with_torch tests/with_torch`.
collect_ignore = [] if find_spec("torch") else ["with_torch"]

# Where tests load the real models, which takes time and 3 GB.
REAL_MODELS = ("tests/real/", "tests/clients/", "tests/gateway/test_contract.py")


class ByRoom(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Where several processes test (`-n`): one runs all that needs the real models, and no file is divided."""

    def _split_scope(self, nodeid: str) -> str:
        return "real models" if nodeid.startswith(REAL_MODELS) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByRoom:
    return ByRoom(config, log)


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


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready `pointsman serve` with both default models: one for all, since loading them takes time and 3 GB. At the
    end Ctrl-C must end it, and every process it started, without an error.
    """
    with serving(tmp_path_factory.mktemp("gateway")) as server:
        server.wait_until_ready()
        yield server
        assert server.stop() == 0
