"""Schemathesis over the management of prompts, with the key of an admin: no answer is a fault of ours."""

from pathlib import Path

from tests.gateway.test_contract import CATALOG, as_described
from tests.gateway.test_workers import make_key
from tests.real.server import serving

EXAMPLES = 25  # for each operation


def test_every_answer_to_an_admin_is_as_the_description_says(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    (tmp_path / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    (folder / "pointsman.yaml").write_text("{}\n", encoding="utf-8")  # of the defaults; `make_key` reads it
    settings = {"POINTSMAN_CATALOG": str(tmp_path / "catalog.yaml"), "POINTSMAN_MODELS": "all"}
    with serving(folder, settings) as server:
        server.wait_until_ready()
        key = make_key(folder, "--role", "admin")
        as_described(server, key, tmp_path, "--include-path-regex", "^/v1/prompts", "--max-examples", str(EXAMPLES))
