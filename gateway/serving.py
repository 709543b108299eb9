"""The HTTP server around the application, the same in every process that serves."""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn

from gateway.guard import Guard
from gateway.protocol import Protocol
from gateway.settings import Settings

GC_THRESHOLD = 20_000  # new containers between two looks for cycles; a request makes some hundred and hardly a cycle


def make_server(app: Guard, settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,  # the gateway writes a line of its own per request
        proxy_headers=False,  # the guard looks at who asks
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return uvicorn.Server(config)


async def serve_on(listeners: Sequence[socket.socket], server: uvicorn.Server) -> None:
    """Until a signal, which uvicorn raises again at the end."""
    gc.freeze()  # what start-up made stays; looking through it again and again costs requests their time
    gc.set_threshold(GC_THRESHOLD)
    await server.serve(sockets=list(listeners))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
