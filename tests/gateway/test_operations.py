"""Health and metrics, as probes and scrapers read them."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.meter import Metrics
from models.engine import EngineState
from tests.gateway.wire import CHAT, OpenRig, chat

pytestmark = pytest.mark.anyio


async def test_ready_means_that_the_safe_engine_can_be_called(rig: OpenRig) -> None:
    async with rig() as r:
        for path in ("/readyz", "/health"):
            assert (await r.http.get(path)).json()["status"] == "ok"
        r.engines["small"].state = EngineState.FAILED
        assert (await r.http.get("/readyz")).status_code == 200, "the safe tier answers for the small one"
        for state in set(EngineState) - {EngineState.READY}:
            r.engines["large"].state = state
            response = await r.http.get("/readyz")
            assert response.status_code == 503
            assert response.json() == {
                "status": "not ready",
                "engines": {
                    "small": {"state": "failed", "restarts": 0},
                    "large": {"state": state.value, "restarts": 0},
                },
            }
        assert (await r.http.get("/livez")).status_code == 200, "a process that waits for its engine lives"


async def test_metrics_are_those_of_the_table_and_nothing_else(rig: OpenRig) -> None:
    async with rig() as r:
        await r.http.post(CHAT, json=chat())
        await r.runtime.ledger.flush()
        response = await r.http.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
        table = CollectorRegistry()
        Metrics(table)
        assert set(families) == {family.name for family in table.collect()}
        assert all(family.documentation for family in families.values())
        assert {(s.labels["model"], s.value) for s in families["pointsman_engine_up"].samples} == {
            ("small", 1),
            ("large", 1),
        }
        assert 'pointsman_requests_total{model="large",outcome="ok"} 1.0' in response.text
        assert "pointsman_ledger_waiting_charges 0.0" in response.text


async def test_metrics_tell_which_engine_is_down(rig: OpenRig) -> None:
    async with rig() as r:
        r.engines["small"].state = EngineState.RESTARTING
        text = (await r.http.get("/metrics")).text
        assert 'pointsman_engine_up{model="small"} 0.0' in text
        assert 'pointsman_engine_up{model="large"} 1.0' in text


async def test_the_models_that_can_be_asked_for_are_listed(rig: OpenRig) -> None:
    async with rig() as r:
        listed = {model.id: model async for model in r.client.models.list()}
        assert list(listed) == ["auto", "small", "large", "gpt-4o-mini"]
        assert listed["small"].model_dump()["max_model_len"] == 1000
        assert listed["auto"].model_dump()["max_model_len"] == 2000
        small = r.runtime.catalog.models["small"]
        assert (listed["small"].model_dump()["build"], listed["small"].model_dump()["tier"]) == (small.build, 0)
        assert "build" not in listed["auto"].model_dump(), "it may be any"
        for name in listed:
            assert (await r.client.models.retrieve(name)).id == name


async def test_the_description_of_the_api_names_every_route(rig: OpenRig) -> None:
    async with rig() as r:
        described = (await r.http.get("/openapi.json")).json()
        operations = [operation for path in described["paths"].values() for operation in path.values()]
        assert {CHAT, "/v1/decision", "/v1/models", "/livez", "/readyz", "/metrics"} <= set(described["paths"])
        assert all(operation["summary"] for operation in operations)
