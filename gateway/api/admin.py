"""What only an admin's key may do."""

from typing import Any

from fastapi import APIRouter, Request

from gateway.errors import InvalidRequest, NotAllowed
from gateway.held import held_of
from gateway.keys import Role
from gateway.reload import Reloads

routes = APIRouter(tags=["administration"], prefix="/admin")


@routes.post("/reload", summary="Read the settings anew; a mistake in them changes nothing")
async def reload(request: Request) -> dict[str, Any]:
    """The same as SIGHUP, and as changing the file. Needs the key of an admin."""
    if held_of(request.scope).known_caller.role is not Role.ADMIN:
        raise NotAllowed("this needs the key of an admin: pointsman keys create NAME --role admin", code="admin_only")
    reloads: Reloads = request.app.state.reloads
    done = await reloads.reload("admin")
    if done.error is not None:
        raise InvalidRequest(
            f"the settings were not taken, the old ones serve on: {done.error}", code="invalid_settings"
        )
    return {"object": "reload", "result": done.result, "warning": done.warning}
