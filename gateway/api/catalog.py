"""GET /v1/models: what can be asked for."""

from typing import Any

from fastapi import APIRouter, Request

from gateway.errors import ModelNotFound
from gateway.held import Held, held_of
from gateway.prompting.naming import AS_MODEL
from models.catalog import AUTO, Catalog
from prompts.reference import PRODUCTION

routes = APIRouter(tags=["models"])

CREATED = 1_763_856_000  # the protocol wants a time; a catalogue row has none


@routes.get("/v1/models", summary="List the models")
async def list_models(request: Request) -> dict[str, Any]:
    held = held_of(request.scope)
    catalog = held.runtime.catalog
    return {"object": "list", "data": [_item(name, catalog) for name in (*_names(held), *_prompts(held))]}


@routes.get("/v1/models/{name:path}", summary="One model")
async def get_model(request: Request, name: str) -> dict[str, Any]:
    held = held_of(request.scope)
    names = _names(held)
    if name not in names and name not in _prompts(held):
        raise ModelNotFound(f"the model {name[:100]!r} does not exist here; served: {', '.join(names)}")
    return _item(name, held.runtime.catalog)


def _names(held: Held) -> list[str]:
    """What this caller may ask for."""
    catalog, allowed = held.runtime.catalog, held.known_caller.models
    names = [AUTO, *catalog.models, *catalog.aliases]
    if allowed is None:
        return names
    return [name for name in names if catalog.aliases.get(name, name) in (AUTO, *allowed)]


def _prompts(held: Held) -> list[str]:
    """The prompts that this caller may name as a model: those in production."""
    library, allowed = held.runtime.library, held.known_caller.templates
    there = {id: labels[PRODUCTION] for id, labels in library.labels.items() if PRODUCTION in labels}
    templates = (library.versions[id][number].template for id, number in sorted(there.items()))
    return [f"{AS_MODEL}{template.id}" for template in templates if allowed is None or template.key in allowed]


def _item(name: str, catalog: Catalog) -> dict[str, Any]:
    target = catalog.aliases.get(name, name)
    model = catalog.models.get(target, catalog.safe)  # auto reaches as far as the safe tier
    item = {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "pointsman",
        "max_model_len": model.context_tokens,
    }
    return item if name not in catalog.models else {**item, "build": model.build, "tier": model.tier}
