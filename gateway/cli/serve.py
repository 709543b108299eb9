"""pointsman serve: fetch what is missing, start everything, say how to call it, and end everything it started."""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import sys

import anyio.to_thread
import uvicorn
from rich.markup import escape

from gateway import logs
from gateway.app import create_app
from gateway.builder import model_store
from gateway.cli.config import ConfigOption
from gateway.cli.models import fetch
from gateway.cli.screen import console, problems
from gateway.guard import Guard
from gateway.keys import Keys
from gateway.ledger.database import open_database
from gateway.protocol import Protocol
from gateway.runtime import Runtime
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Ability, Catalog
from models.engine import EngineState

READY_POLL_SECONDS = 0.1
GC_THRESHOLD = 20_000  # new containers between two looks for cycles; a request makes some hundred and hardly a cycle
FIRST_KEY_NAME = "first"


class PortInUse(Exception):
    """Somebody else listens there, or this user may not."""


def serve(file: ConfigOption = None) -> None:
    """Serve the gateway until Ctrl-C, with the engines of the served models.

    The first start fetches the models and shows an API key, once.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a supervisor's stop is an operator's Ctrl-C
    settings = load_settings()
    catalog = served_catalog(settings)
    logs.set_up(settings.log_level)
    listener = _listen(settings)
    store = model_store(settings)
    for model in catalog:
        if model.file is not None:
            fetch(store, model, model.file)
    open_database(settings.database).dispose()  # one that cannot be used is refused before anything is started
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=Protocol,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        log_config=None,
        access_log=False,  # the gateway writes a line of its own per request
        proxy_headers=False,  # the guard looks at who asks
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = uvicorn.Server(config)
    # uvicorn ends everything on a signal, then raises it again: whoever was told to stop, and did, has not failed.
    with contextlib.suppress(KeyboardInterrupt):
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(server, listener, app, settings, catalog))
        if not server.started:
            raise SystemExit(1)


async def _serve(
    server: uvicorn.Server, listener: socket.socket, app: Guard, settings: Settings, catalog: Catalog
) -> None:
    gc.freeze()  # what start-up made stays; looking through it again and again cost a request in twenty
    gc.set_threshold(GC_THRESHOLD)
    greeting = asyncio.create_task(_greet_when_ready(server, app, settings, catalog))
    try:
        await server.serve(sockets=[listener])
    finally:
        greeting.cancel()


def _listen(settings: Settings) -> socket.socket:
    """Take the port before anything heavy is started. Raises PortInUse."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        at = f"{settings.host}:{settings.port}"
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be taken ({error.strerror})"
        raise PortInUse(
            f"{at} {why}; choose another port: PORT=8081 make run, or POINTSMAN_PORT=8081 pointsman serve"
        ) from error
    return listener


def _first_key(keys: Keys) -> str | None:
    """A key for the first start; None when there are keys already. Call it only when it will be shown."""
    return keys.create(FIRST_KEY_NAME)[0] if not keys.list() else None


async def _greet_when_ready(server: uvicorn.Server, app: Guard, settings: Settings, catalog: Catalog) -> None:
    while not (server.started and _settled(app)):  # noqa: ASYNC110  # neither uvicorn nor engines offer an event
        await asyncio.sleep(READY_POLL_SECONDS)
    runtime: Runtime = app.builder.runtime
    for name, engine in runtime.engines.items():
        if engine.health().state is EngineState.FAILED:
            detail = escape(engine.health().detail)
            problems.print(f"[bold red]{name} cannot be called:[/] {detail}", highlight=False, soft_wrap=True)
    key = None if settings.open_loopback else await anyio.to_thread.run_sync(_first_key, runtime.keys)
    console.print(greeting(settings, catalog, key), highlight=False, soft_wrap=True, markup=True)


def _settled(app: Guard) -> bool:
    """Every engine can be called, or cannot be until somebody changes something."""
    states = [engine.health().state for engine in app.builder.runtime.engines.values()]
    return all(state in (EngineState.READY, EngineState.FAILED) for state in states)


def _listed(catalog: Catalog) -> list[str]:
    """A line per model; those that answer no conversation last."""
    chatting = [f"{m.name}{'   (safe tier)' if m == catalog.safe else ''}" for m in catalog.chatting]
    others = [m for m in catalog if Ability.CHAT not in m.abilities]
    return chatting + [f"{m.name}   (only {', '.join(sorted(m.abilities))})" for m in others]


def greeting(settings: Settings, catalog: Catalog, key: str | None) -> str:
    """What a new user needs to make the first call."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{settings.port}"
    listed = "\n".join(f"    {line}" for line in _listed(catalog))
    if settings.open_loopback:
        shown, key_line = "anything", "Callers on this machine need no key (POINTSMAN_OPEN_LOOPBACK)."
    elif key:
        shown, key_line = key, f"Your API key, shown now and never again: [bold]{key}[/]"
    else:
        shown, key_line = "YOUR_KEY", "Use the key that the first start showed, or make one: pointsman keys create NAME"
    return f"""
[bold green]Pointsman is ready[/] at {base}

Models: [bold]auto[/], or one of
{listed}

{key_line}

curl -i {base}/v1/chat/completions -H 'Authorization: Bearer {shown}' -H 'Content-Type: application/json' \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{base}/v1", api_key="{shown}")
print(client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "Hello"}}]))

Which model and why: the x-pointsman-* headers of each answer, or POST {base}/v1/decision
Metrics: {base}/metrics   Health: {base}/readyz   API: {base}/openapi.json
Ledger: {settings.database.split("@")[-1]}   Engine logs: {settings.data_dir / "logs"}   Ctrl-C ends everything.
"""
