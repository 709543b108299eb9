"""`pointsman serve`, the whole of it, with outcomes for the mock engine: `python -m tests.bench.gateway_server`.

A mock has proved nothing, so its two rows take the place of two models that have: the committed outcomes and
weights are read and counted exactly as for the real ones, under the mock's builds. Only what the router knows differs
from the product; how it is served, metered, logged and stored does not.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module

from gateway.app import create_app
from gateway.settings import Settings
from models.catalog import Catalog, load_catalog
from router.bar import parse_bar
from router.decision import Knowledge
from router.difficulty import Difficulty, load_difficulty
from router.knowledge import make_knowledge
from router.outcomes import read_outcomes


def stand_ins(catalog: Catalog) -> Mapping[str, str]:
    """The mock's builds by the builds whose outcomes they take: those of the models that are served by default."""
    names = Settings.model_fields["models"].default
    real = load_catalog().only(names).chatting
    return {model.build: mock.build for model, mock in zip(real, catalog, strict=True)}


def mock_knowledge(catalog: Catalog, settings: Settings) -> Knowledge:
    """What the router would know about the real models, said of the mock's rows."""
    builds = stand_ins(catalog)
    outcomes = [replace(o, build=builds[o.build]) for o in read_outcomes() if o.build in builds]
    solve_models = load_difficulty().models
    difficulty = Difficulty({mock: solve_models[real] for real, mock in builds.items() if real in solve_models})
    bar = parse_bar(settings.bar, settings.confidence)
    return make_knowledge(catalog.chatting, bar, outcomes, difficulty)


if __name__ == "__main__":
    serving = import_module("gateway.cli.serve")  # the package has a function of this name
    vars(serving)["create_app"] = partial(create_app, knowledge_maker=mock_knowledge)
    serving.serve()
