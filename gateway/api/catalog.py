"""GET /v1/models: what can be asked for."""

from typing import Any

from fastapi import APIRouter, Request

from gateway.errors import ModelNotFound
from gateway.held import held_of
from models.catalog import AUTO, Catalog

routes = APIRouter(tags=["models"])

CREATED = 1_763_856_000  # the protocol wants a time; a catalogue row has none


@routes.get("/v1/models", summary="List the models")
async def list_models(request: Request) -> dict[str, Any]:
    catalog = held_of(request.scope).runtime.catalog
    return {"object": "list", "data": [_item(name, catalog) for name in _names(catalog)]}


@routes.get("/v1/models/{name:path}", summary="One model")
async def get_model(request: Request, name: str) -> dict[str, Any]:
    catalog = held_of(request.scope).runtime.catalog
    if name not in _names(catalog):
        raise ModelNotFound(f"the model {name[:100]!r} does not exist here; served: {', '.join(_names(catalog))}")
    return _item(name, catalog)


def _names(catalog: Catalog) -> list[str]:
    return [AUTO, *catalog.models, *catalog.aliases]


def _item(name: str, catalog: Catalog) -> dict[str, Any]:
    target = catalog.aliases.get(name, name)
    model = catalog.models.get(target, catalog.safe)  # auto reaches as far as the safe tier
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "pointsman",
        "max_model_len": model.context_tokens,
    }
