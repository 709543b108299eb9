"""Every decision of `auto` is in the ledger, and the command line can explain it and make it again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from tests.gateway.test_wishes import ASKED, HOLDS_A_TENTH, knowing
from tests.gateway.wire import OpenRig
from tests.rig import Rig

pytestmark = pytest.mark.anyio


async def pointsman(r: Rig, *arguments: str) -> tuple[int, str]:
    settings = r.runtime.settings
    environment: Mapping[str, str] = {
        **os.environ,
        "POINTSMAN_DATA_DIR": str(settings.data_dir),
        "POINTSMAN_CATALOG": str(settings.catalog),
        "POINTSMAN_MODELS": "all",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "gateway", *arguments]
    run = asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    done = await run
    return done.returncode, done.stdout + done.stderr


async def ask(r: Rig, model: str = "auto", **headers: str) -> str:
    raw = await r.client.chat.completions.with_raw_response.create(
        model=model,
        messages=ASKED,  # type: ignore[arg-type]
        extra_headers={f"x-pointsman-{name}": value for name, value in headers.items()},
    )
    return raw.headers["x-request-id"]


async def test_a_decision_is_explained_and_made_again_from_the_ledger_alone(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH)) as r:
        by_evidence, pinned = await ask(r), await ask(r, "large")
        await r.charges(2)
        code, said = await pointsman(r, "route", "explain", by_evidence)
        assert code == 0, said
        assert "small   basis: evidence" in said
        assert "passed 190/200" in said
        assert "made again: the same choice, small, large" in said
        code, said = await pointsman(r, "route", "explain", pinned)
        assert code == 1
        assert "nothing was weighed" in said
        code, said = await pointsman(r, "route", "explain", "req_nobody")
        assert code == 1
        assert "no request req_nobody" in said


async def test_a_decision_that_this_version_would_not_make_is_said_to_differ(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH)) as r:
        asked = await ask(r)
        [row] = await r.charges(1)
        document = orjson.loads(row["decision"])
        document["order"] = document["chosen"] = ["large"]
        await _rewrite(r, asked, orjson.dumps(document).decode())
        code, said = await pointsman(r, "route", "explain", asked)
        assert code == 1
        assert "decides otherwise" in said


async def test_decisions_are_not_kept_where_the_operator_says_so(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH), keep_decisions=False) as r:
        await ask(r)
        [row] = await r.charges(1)
        assert row["decision"] is None
        assert row["basis"] == "evidence"


async def test_a_ledger_is_replayed_under_another_bar(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH)) as r:
        asked = [await ask(r) for _ in range(3)]
        await r.charges(3)
        for request_id, right in zip(asked, (True, True, False), strict=True):
            told = {"request_id": request_id, "name": "correct", "value": right}
            assert (await r.http.post("/v1/feedback", json=told)).status_code == 200
        code, said = await pointsman(r, "route", "simulate")
        assert code == 0, said
        assert "0 (0%)" in said
        assert "2 of 3" in said
        code, said = await pointsman(r, "route", "simulate", "--bar", "safe-0.02")
        assert code == 0, said
        assert "3 (100%)" in said
        assert "cannot say" in said
        code, said = await pointsman(r, "route", "simulate", "--bar", "0.9")
        assert code == 1
        assert "--bar 0.9" in said


async def test_an_empty_ledger_is_not_replayed(rig: OpenRig) -> None:
    async with rig() as r:
        code, said = await pointsman(r, "route", "simulate")
        assert code == 1
        assert "no answered request" in said


async def _rewrite(r: Rig, request_id: str, decision: str) -> None:
    from sqlalchemy import create_engine, update

    from gateway.ledger.tables import charges

    def rewrite() -> None:
        database = create_engine(r.runtime.settings.database)
        with database.begin() as connection:
            connection.execute(update(charges).where(charges.c.id == request_id).values(decision=decision))
        database.dispose()

    await asyncio.to_thread(rewrite)
