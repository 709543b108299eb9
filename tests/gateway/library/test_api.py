"""The management of prompts through the front door: who may, what is refused and how, and that it serves at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import insert

from gateway.keys import Grant, Role
from gateway.ledger.tables import charges
from gateway.library.lineup import Lineup
from prompts.promptfile import LabelPolicy, Policy
from prompts.reference import read_reference
from prompts.suite_document import document_of
from prompts.template import Template
from tests.gateway.library.world import PROMPT, SUITE, receipt, template
from tests.gateway.wire import CHAT, OpenRig, error_of
from tests.rig import CATALOG, Rig

pytestmark = pytest.mark.anyio

PATH = f"/v1/prompts/{PROMPT}"
LABEL = f"{PATH}/labels/production"
SAID = {
    "messages": [{"role": "user", "content": "Say {{ what }}."}],
    "inputs": {
        "type": "object",
        "required": ["what"],
        "properties": {"what": {"type": "string", "maxLength": 9}},
    },
}
NEW = {"if-none-match": "*"}


@asynccontextmanager
async def managed(rig: OpenRig, **settings: Any) -> AsyncIterator[Rig]:
    """A gateway whose client has an admin's key."""
    async with rig(**settings) as r:
        key, _ = await asyncio.to_thread(r.runtime.keys.create, "ann", Grant(role=Role.ADMIN))
        r.http.headers["authorization"] = f"Bearer {key}"
        yield r


def canonical(of: Template) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(of.canonical)
    return said


def lineup(r: Rig) -> Lineup:
    return r.builder.runtime.prompts.lineup


async def saved(r: Rig, of: Template) -> int:
    answer = await r.http.post("/v1/prompts", json={"id": of.id, "template": canonical(of)})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["version"])


async def proved(r: Rig, of: Template, *tiers: str, passed: int = 20) -> None:
    for tier in tiers:
        made = receipt(of, tier, passed=passed, lineup=lineup(r)).document()
        answer = await r.http.post(f"{PATH}/receipts", json=made)
        assert answer.status_code == 200, answer.text


async def asked(r: Rig) -> None:
    assert (await r.http.put(f"{PATH}/suite", json=document_of(SUITE))).status_code == 200


def served(r: Rig, written: str = PROMPT) -> tuple[int, set[str]]:
    runtime = r.builder.runtime
    version = runtime.library.find(read_reference(written))
    return version.number, {*runtime.prompt_tiers(version)}


async def test_every_path_needs_the_key_of_an_admin(rig: OpenRig) -> None:
    async with rig() as r:
        document = (await r.http.get("/openapi.json")).json()
        paths = {path: of for path, of in document["paths"].items() if path.startswith("/v1/prompts")}
        assert len(paths) >= 13
        for path, operations in paths.items():
            for method in operations:
                put = path.replace("{id}", PROMPT).replace("{label}", "production")
                refused = await r.http.request(method, put, params={"from": "1"})
                assert (refused.status_code, error_of(refused)["code"]) == (403, "admin_only"), (method, path)


async def test_a_version_is_saved_shown_rendered_and_compared(rig: OpenRig) -> None:
    async with managed(rig) as r:
        one = {"id": "say", "prompt": SAID, "message": "first"}
        first = (await r.http.post("/v1/prompts", json=one)).json()
        assert (first["version"], first["origin"], first["message"], first["parent"]) == (1, "api", "first", None)
        assert (await r.http.post("/v1/prompts", json=one)).json()["version"] == 1
        prompt = {**SAID, "messages": [{"role": "user", "content": "Tell {{ what }}."}]}
        variants = {"small": {"messages": [{"role": "user", "content": "{% include 'short' %} {{ what }}"}]}}
        two = {"id": "say", "prompt": prompt, "variants": variants, "partials": {"short": "Briefly:"}, "parent": 1}
        assert (await r.http.post("/v1/prompts", json={**two, "draft": True})).json()["origin"] == "draft"

        assert [v["version"] for v in (await r.http.get("/v1/prompts/say/versions")).json()["data"]] == [1, 2]
        assert (await r.http.get("/v1/prompts/say?version=1")).json()["digest"] == first["digest"]
        [listed] = (await r.http.get("/v1/prompts")).json()["data"]
        assert (listed["id"], listed["latest"], listed["labels"]) == ("say", 2, {})
        changes = (await r.http.get("/v1/prompts/say/diff?from=1")).json()["changes"]
        assert changes[0]["lines"][-2:] == ["-Say {{ what }}.", "+Tell {{ what }}."]
        body = {"variables": {"what": "no"}, "tier": "small"}
        shown = (await r.http.post("/v1/prompts/say/render", json=body)).json()
        assert (shown["variant"], shown["messages"]) == ("small", [{"role": "user", "content": "Briefly: no"}])
        refused = await r.http.post("/v1/prompts/say/render", json={"variables": {"what": "far too long"}})
        assert (refused.status_code, error_of(refused)["param"]) == (400, "variables/what")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"id": "say"}, "send either prompt"),
        ({"id": "say", "prompt": SAID, "template": {}}, "send either prompt"),
        ({"id": "Say", "prompt": SAID}, "no id of a prompt"),
        ({"id": "say", "prompt": {**SAID, "mesages": []}}, "mesages"),
        ({"id": "say", "prompt": {"messages": [{"role": "user", "content": "{{ x }}"}]}}, "no variable of inputs"),
        ({"id": "say", "prompt": {"messages": [{"role": "user", "content": "{% for %}"}]}}, "syntax|expected"),
        ({"id": "say", "prompt": SAID, "parent": 3}, "no version 3"),
        ({"id": "say", "template": {"format": 1, "id": "say"}}, "messages"),
        ({"id": "say", "template": {**canonical(template()), "parameters": 5}}, "modelParameters"),
        ({"id": "say", "template": canonical(template())}, "is called 'support/triage'"),
        ({"id": PROMPT, "template": {**canonical(template()), "more": 1}}, "more"),
    ],
)
async def test_what_is_wrong_with_a_version_is_told_and_nothing_is_saved(
    rig: OpenRig, body: dict[str, Any], says: str
) -> None:
    async with managed(rig) as r:
        refused = await r.http.post("/v1/prompts", json=body)
        assert refused.status_code in (400, 404)
        assert any(word in error_of(refused)["message"] for word in says.split("|")), refused.text
        assert (await r.http.get("/v1/prompts")).json()["data"] == []


async def test_a_gated_label_is_refused_with_the_rows_and_moves_once_they_hold(rig: OpenRig, database_url: str) -> None:
    async with managed(rig, database_url=database_url) as r:
        await saved(r, template())
        await asked(r)
        await proved(r, template(), "large")
        await proved(r, template(), "small", passed=10)
        shut = await r.http.put(LABEL, json={"version": 1}, headers=NEW)
        error = shut.json()["error"]
        assert (shut.status_code, error["code"], error["type"]) == (409, "prompt_gate", "invalid_request_error")
        assert [(row["tier"], row["passed"], row["total"], row["bar"]) for row in error["rows"]] == [
            ("small", 10, 20, "0.8")
        ]
        assert shut.headers["x-should-retry"] == "false"
        assert (await r.http.get(f"{PATH}/gate")).json()["opens"] is False
        assert (await r.http.get(f"{PATH}/gate?excluded=small")).json()["opens"] is True
        assert (await r.http.get(LABEL)).status_code == 404

        moved = await r.http.put(LABEL, json={"version": 1, "excluded": ["small"]}, headers=NEW)
        assert (moved.status_code, moved.headers["etag"]) == (200, '"1"')
        assert served(r) == (1, {"large"})
        got = await r.http.get(LABEL)
        assert (got.headers["etag"], got.json()["excluded"]) == ('"1"', ["small"])
        assert [v["tiers"] for v in (await r.http.get(f"{PATH}/versions")).json()["data"]] == [["large"]]


@pytest.mark.parametrize("model", ["small", "mini"])
async def test_a_prompt_of_one_model_proves_itself_there_by_whatever_name_it_has(rig: OpenRig, model: str) -> None:
    pinned = replace(template(), model=model)
    async with managed(rig, catalog=f"{CATALOG}  mini: small\n") as r:
        await saved(r, pinned)
        await asked(r)
        shut = await r.http.put(LABEL, json={"version": 1}, headers=NEW)
        assert (shut.status_code, [row["tier"] for row in shut.json()["error"]["rows"]]) == (409, ["small"])
        await proved(r, pinned, "small")
        moved = await r.http.put(LABEL, json={"version": 1}, headers=NEW)
        assert (moved.status_code, served(r)) == (200, (1, {"small"})), moved.text
        answer = await r.http.post(CHAT, json={"prompt": {"id": PROMPT, "variables": {"text": "t1"}}})
        assert (answer.status_code, answer.headers.get("x-pointsman-model")) == (200, "small"), answer.text


async def test_a_prompt_of_an_alias_of_auto_proves_itself_everywhere(rig: OpenRig) -> None:
    anywhere = replace(template(), model="gpt-4o-mini")
    async with managed(rig) as r:
        await saved(r, anywhere)
        await asked(r)
        shut = await r.http.put(LABEL, json={"version": 1}, headers=NEW)
        assert {row["tier"] for row in shut.json()["error"]["rows"]} == {"small", "large"}
        await proved(r, anywhere, "small", "large")
        assert (await r.http.put(LABEL, json={"version": 1}, headers=NEW)).status_code == 200
        assert served(r) == (1, {"small", "large"})


async def test_a_label_moves_from_where_it_was_seen_only(rig: OpenRig, database_url: str) -> None:
    async with managed(rig, database_url=database_url) as r:
        for said in ("a", "b"):
            await saved(r, template(said))
        staging = f"{PATH}/labels/staging"
        blind = await r.http.put(staging, json={"version": 1})
        assert (blind.status_code, error_of(blind)["param"]) == (428, "If-Match")
        assert (await r.http.put(staging, json={"version": 1}, headers=NEW)).status_code == 200
        stale = await r.http.put(staging, json={"version": 2}, headers={"if-match": '"2"'})
        assert (stale.status_code, error_of(stale)["code"]) == (412, "precondition_failed")
        assert (await r.http.put(staging, json={"version": 2}, headers=NEW)).status_code == 412
        assert (await r.http.put(staging, json={"version": 9}, headers={"if-match": "1"})).status_code == 404
        assert served(r, f"{PROMPT}@staging")[0] == 1
        assert (await r.http.put(staging, json={"version": 2}, headers={"if-match": '"1"'})).status_code == 200
        back = await r.http.post(f"{staging}/rollback", json={}, headers={"if-match": '"2"'})
        assert (back.status_code, back.json()["version"]) == (200, 1)
        moves = (await r.http.get(f"{staging}/history")).json()["data"]
        assert [(m["from"], m["version"]) for m in moves] == [(2, 1), (1, 2), (None, 1)]
        assert moves[0]["by"].startswith("ann (key_")
        for label in ("latest", "7"):
            assert (await r.http.put(f"{PATH}/labels/{label}", json={"version": 1}, headers=NEW)).status_code == 400


async def test_an_override_without_a_named_role_is_refused(rig: OpenRig) -> None:
    async with managed(rig) as r:
        await saved(r, template())
        said = {"role": "admin", "reason": "hurry", "until": "2099-01-01T00:00:00Z"}
        refused = await r.http.put(LABEL, json={"version": 1, "override": said}, headers=NEW)
        assert (refused.status_code, error_of(refused)["code"]) == (403, "prompt_role_missing")
        wrong = {**said, "until": "soon"}
        refused = await r.http.put(LABEL, json={"version": 1, "override": wrong}, headers=NEW)
        assert error_of(refused)["param"] == "override.until"


async def test_what_is_exported_goes_in_again_but_for_labels(rig: OpenRig, tmp_path: Path) -> None:
    async with managed(rig) as r:
        await saved(r, template("a"))
        await saved(r, template())
        await asked(r)
        await proved(r, template(), "small", "large")
        assert (await r.http.put(LABEL, json={"version": 2}, headers=NEW)).status_code == 200
        lines = (await r.http.get("/v1/prompts:export")).content
    other = tmp_path / "other"
    other.mkdir()
    async with managed(rig, data_dir=other) as r:
        done = (await r.http.post("/v1/prompts:import", content=lines)).json()
        assert done["counts"] == {"version": 2, "suite": 1, "receipt": 2}
        assert "labels are not imported" in done["left_out"][0]
        assert (await r.http.get("/v1/prompts")).json()["data"][0]["labels"] == {}
        assert (await r.http.put(LABEL, json={"version": 2}, headers=NEW)).status_code == 200
        again = [
            line for line in (await r.http.get("/v1/prompts:export")).content.splitlines() if b'"move"' not in line
        ]
        assert len(again) == 5
        worse = b"\n".join([b"{", b"[]", b'{"kind": "x"}', b'{"kind": "version"}'])
        told = (await r.http.post("/v1/prompts:import", content=worse)).json()
        assert (told["counts"], [line[:6] for line in told["left_out"]]) == ({}, [f"line {n}" for n in (1, 2, 3, 4)])


async def test_a_receipt_that_was_changed_is_refused(rig: OpenRig) -> None:
    async with managed(rig) as r:
        await saved(r, template())
        await asked(r)
        made = receipt(template(), "small", passed=1, lineup=lineup(r)).document()
        for forged in ({**made, "passed": 20}, {}, {**made, "results": []}):
            refused = await r.http.post(f"{PATH}/receipts", json=forged)
            assert (refused.status_code, error_of(refused)["code"]) == (400, "prompt_receipt_refused")
        assert (await r.http.get(f"{PATH}/receipts")).json()["data"] == []


async def test_what_is_not_there_is_not_found(rig: OpenRig) -> None:
    async with managed(rig) as r:
        answers: list[httpx2.Response] = [
            await r.http.get(path)
            for path in (PATH, f"{PATH}/versions", f"{PATH}/suite", LABEL, f"{PATH}/gate", f"{PATH}/diff?from=1")
        ]
        assert {answer.status_code for answer in answers} == {404}
        for wrong in ("/v1/prompts/A%00b", "/v1/prompts//versions", f"/v1/prompts/{'a/' * 200}a"):
            assert (await r.http.get(wrong)).status_code in (400, 404)


async def test_a_label_that_is_newly_gated_says_what_its_version_has_not_shown(rig: OpenRig) -> None:
    """The policy moves nothing; what is under the label is sent to the safe tier, and that can be seen."""
    async with managed(rig) as r:
        store = r.runtime.prompts
        await asyncio.to_thread(store.save, template(), origin="api", author="ann")
        path = f"{PATH}/labels/staging"
        assert (await r.http.put(path, json={"version": 1}, headers=NEW)).status_code == 200
        before = (await r.http.get(path)).json()
        assert (before["gated"], before["alarms"]) == (False, [])

        def gate_it() -> None:
            with store.writing() as connection:
                store.set_policy_in(connection, Policy(labels={"staging": LabelPolicy(gated=True)}))

        await asyncio.to_thread(gate_it)
        await r.builder.publish()
        after = (await r.http.get(path)).json()
        assert (after["version"], after["gated"]) == (1, True)
        assert [alarm.split(", and ")[0] for alarm in after["alarms"]] == [f"{PROMPT}@1 is staging"] * 2
        assert all(alarm.endswith("it stays there, and is sent to large alone") for alarm in after["alarms"])
        [listed] = (await r.http.get("/v1/prompts")).json()["data"]
        assert listed["alarms"] == {"staging": after["alarms"]}
        assert listed["tiers"] == {"staging": ["large"]}


async def test_a_diff_tells_tokens_and_money_at_the_traffic_that_the_ledger_has(rig: OpenRig) -> None:
    """As the command does, by the same function: half of a prompt is cached, and costs as the catalogue says."""
    async with managed(rig) as r:
        old, new = template(), template("Say yes, and nothing else at all.")
        for of in (old, new):
            await asyncio.to_thread(r.runtime.prompts.save, of, origin="api", author="ann")
        empty = (await r.http.get(f"{PATH}/diff?from=1")).json()
        assert (empty["traffic"], empty["usd_per_day"], empty["tokens_are_guessed"]) == ([], None, True)
        row = {"template": old.key, "model": "large", "prompt_tokens": 100, "cached_tokens": 50, "total_seconds": 1.0}
        row |= {"at": datetime.now(UTC) - timedelta(days=2), "attempts": 1, "outcome": "answered", "streamed": False}
        gone = {**row, "model": "gone"}

        def charge() -> None:
            rows = [{"id": str(n), **(gone if n % 4 == 0 else row)} for n in range(800)]
            with r.builder._database.begin() as connection:
                connection.execute(insert(charges), rows)

        await asyncio.to_thread(charge)
        told = (await r.http.get(f"{PATH}/diff?from=1")).json()
        assert [change["what"] for change in told["changes"]] == ["base: message 0 (system)"]
        tokens = round(len("Say yes, and nothing else at all.") / 4) - round(len("Say yes.") / 4)
        assert told["tokens"] == {"small": tokens, "large": tokens}
        [cost] = told["traffic"]
        assert (cost["model"], cost["tokens_per_call"], cost["cached_share"]) == ("large", tokens, 0.5)
        assert cost["calls_per_day"] == pytest.approx(300, rel=0.01)
        price = r.runtime.catalog.models["large"].price
        assert price is not None
        assert cost["usd_per_day"] == pytest.approx(300 * tokens * float(price.input_usd or 0) / 1e6, rel=0.01)
        assert told["usd_per_day"] == cost["usd_per_day"] > 0
