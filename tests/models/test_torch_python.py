"""Which Python runs what needs torch: the one that can, or an error that says how to get one."""

import os
import sys
from pathlib import Path

import pytest

from models.torch_python import NoTorch, environment, has_distribution, torch_python

NOWHERE = "a_package_that_nobody_has"


def test_the_gateways_own_python_will_do_where_it_can_import_what_is_needed() -> None:
    assert torch_python(["json", "models"]) == Path(sys.executable)


def test_a_named_one_is_asked_and_its_name_is_kept(tmp_path: Path) -> None:
    """An interpreter of a virtual environment is a link, and knows its packages by the link's own place."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)

    assert torch_python(["json"], Path(os.path.relpath(sys.executable))) == Path(sys.executable)
    with pytest.raises(NoTorch, match=r"does not have Pointsman.*pip install"):
        torch_python(["json"], link)


@pytest.mark.parametrize("named", [None, Path(sys.executable)])
def test_what_is_missing_is_named_with_the_remedy(named: Path | None) -> None:
    with pytest.raises(NoTorch, match=rf"{NOWHERE} is not installed .*make torch.*POINTSMAN_TORCH_PYTHON"):
        torch_python(["json", NOWHERE], named)


@pytest.mark.parametrize("content", [None, b"\x7fELF nonsense", b"#!/bin/false\n"])
def test_what_is_no_python_is_named_with_the_remedy(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "python"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o755)
    with pytest.raises(NoTorch, match=r"no Python that can be started.*make torch"):
        torch_python(["json"], path)


def test_whether_a_package_is_there_is_asked_by_its_own_name() -> None:
    here = Path(sys.executable)

    assert has_distribution(here, "pytest")
    assert not has_distribution(here, "vllm-cpu-of-nobody")


def test_nothing_that_runs_there_asks_a_network_for_anything() -> None:
    assert environment().items() >= {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}.items()
