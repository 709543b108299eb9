"""Here time stands still while anything can run, and jumps to the next timer when nothing can."""

from typing import Any

import pytest

from tests.gateway.dispatch.clock import JumpingLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": JumpingLoop}
