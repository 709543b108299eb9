"""What a worker is told is what the supervisor has, whatever stands in the worker's own environment."""

from pathlib import Path

import pytest

from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from gateway.workers.told import engine_read, engine_written, read, written
from models.engine import EngineState, Health
from models.process import Place

FILE = """
bar: "0.9"
machine_hour_usd: "0.30"
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 9, abilities: [chat, tools], price: {hour_usd: "0.1"}}
  - {name: far, engine: openai, tier: 1, context_tokens: 9, base_url: "http://h/v1", replicas: ["http://i/v1"]}
aliases: {gpt: far}
cache: {enabled: true, semantic: [{template: t, threshold: 0.9}]}
guardrails: [{kind: blocklist, words: [secret]}, {kind: pii}]
"""


def test_settings_arrive_as_they_were_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pointsman.yaml"
    path.write_text(FILE, encoding="utf-8")
    sent = load_settings(config=path)
    text = written(sent, served_catalog(sent))
    path.write_text("models: [", encoding="utf-8")
    monkeypatch.setenv("POINTSMAN_BAR", "0.1")
    monkeypatch.setenv("POINTSMAN_ALIASES", "other=auto")
    arrived = read(text)
    rows = {"rows", "models"}
    assert arrived.model_dump(exclude=rows) == sent.model_dump(exclude=rows)
    assert isinstance(arrived, Settings)


def test_the_rows_of_a_catalogue_that_has_changed_meanwhile_are_the_old_ones() -> None:
    sent = load_settings(config="")
    catalog = served_catalog(sent)
    arrived = served_catalog(read(written(sent, catalog)).model_copy(update={"catalog": Path("gone.yaml")}))
    assert arrived == catalog
    assert [row.build for row in arrived] == [row.build for row in catalog]


@pytest.mark.parametrize("place", [None, Place("http://127.0.0.1:9", "key")])
def test_how_an_engine_is_arrives(place: Place | None) -> None:
    health = Health(EngineState.RESTARTING, "its process ended", 3)
    assert engine_read(engine_written(health, place)) == (health, place)
