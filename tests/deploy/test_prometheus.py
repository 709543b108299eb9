"""The alerts name metrics and labels that exist."""

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from gateway.ledger.charge import Outcome
from gateway.meter import Metrics
from router.decision import Basis

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
NAME = re.compile(r"\bpointsman_\w+")


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _exposed() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry)
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    return {family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]}


def test_every_alert_watches_metrics_that_are_exposed() -> None:
    watched = {name for rule in _rules() for name in NAME.findall(rule["expr"])}
    assert watched
    assert watched <= _exposed()


def test_every_alert_says_what_to_do() -> None:
    assert all(rule["annotations"]["action"] for rule in _rules())


def test_label_values_in_alerts_are_ones_the_gateway_uses() -> None:
    text = " ".join(rule["expr"] for rule in _rules())
    for outcomes in re.findall(r'outcome=~?"([^"]+)"', text):
        assert set(outcomes.split("|")) <= {outcome.value for outcome in Outcome}
    for bases in re.findall(r'basis=~?"([^"]+)"', text):
        assert set(bases.split("|")) <= {basis.value for basis in Basis}
