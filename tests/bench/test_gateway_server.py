"""What the router knows of the mock is what it knows of the models whose place it takes."""

from pathlib import Path

import pytest

from gateway.builder import load_knowledge_for
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from tests.bench.gateway import BAR, CATALOG
from tests.bench.gateway_server import mock_knowledge, stand_ins
from tests.bench.wire import MODEL


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG.format(port=1, model=MODEL), encoding="utf-8")
    return load_settings(catalog=catalog, models=("all",), bar=BAR)


def test_the_mock_has_the_outcomes_and_thresholds_of_the_models_it_stands_for(settings: Settings) -> None:
    real_settings = load_settings(bar=BAR)
    real = load_knowledge_for(served_catalog(real_settings), real_settings)
    catalog = served_catalog(settings)
    mock, builds = mock_knowledge(catalog, settings), stand_ins(catalog)
    kept = {(template, builds[b]): tally for (template, b), tally in real.evidence.tallies.items() if b in builds}
    assert mock.evidence.tallies == kept != {}
    assert mock.thresholds == {builds[b]: threshold for b, threshold in real.thresholds.items() if b in builds} != {}
