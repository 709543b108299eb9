"""One gateway with both default models for all tests here: loading them takes most of the time."""

from collections.abc import Iterator

import pytest

from tests.real.server import Server, serving


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready `pointsman serve`. At the end Ctrl-C must end it, and every process it started, without an error."""
    with serving(tmp_path_factory.mktemp("gateway")) as server:
        server.wait_until_ready()
        yield server
        assert server.stop() == 0
