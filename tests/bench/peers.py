"""The other gateways: where each is looked for, how it is set up in front of the mock engine, how to get it.

Each listens on loopback only, with one worker where that can be said, keeps its connections to the engine open, and
writes a log no chattier than it does by default. nginx and haproxy are floors: they pass bytes on, and check no key.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.processes import free_port
from tests.bench.wire import MODEL

VENV = Path(".venv-peers")
SYSTEM_PROGRAMS = "/usr/sbin:/usr/local/sbin"  # not on every user's PATH
BY_MAKE = "make bench-peers"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: a folder of its own, its port, the engine's, and the key that callers have."""

    folder: Path
    port: int
    engine_port: int
    key: str


@dataclass(frozen=True, slots=True)
class Peer:
    """`arguments` writes what the program needs into its folder. `slow`: one round says enough."""

    name: str
    program: str
    remedy: str
    arguments: Callable[[Place], list[str]]
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False

    def find(self) -> str | None:
        """The program's path: what `make bench-peers` installed comes first."""
        return shutil.which(self.program, path=f"{(VENV / 'bin').absolute()}:{os.environ['PATH']}:{SYSTEM_PROGRAMS}")


NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    client_body_buffer_size 64k;
    keepalive_requests 1000000;
    upstream engine {{ server 127.0.0.1:{engine_port}; keepalive 512; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend callers
    bind 127.0.0.1:{port}
    default_backend engines
backend engines
    server engine 127.0.0.1:{engine_port} pool-max-conn 512
"""

LITELLM = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{engine_port}/v1", api_key: none}}
general_settings: {{master_key: "{key}"}}
litellm_settings: {{telemetry: false}}
"""


def _written(place: Place, name: str, text: str) -> str:
    path = place.folder / name
    path.write_text(
        text.format(folder=place.folder, port=place.port, engine_port=place.engine_port, key=place.key, model=MODEL),
        encoding="utf-8",
    )
    return str(path)


def _nginx(place: Place) -> list[str]:
    return ["-p", str(place.folder), "-e", str(place.folder / "error.log"), "-c", _written(place, "nginx.conf", NGINX)]


def _haproxy(place: Place) -> list[str]:
    return ["-db", "-f", _written(place, "haproxy.cfg", HAPROXY)]


def _litellm(place: Place) -> list[str]:
    config = _written(place, "litellm.yaml", LITELLM)
    return ["--config", config, "--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]


def _router(place: Place) -> list[str]:
    listen = [
        "--host",
        "127.0.0.1",
        "--port",
        str(place.port),
        "--worker-urls",
        f"http://127.0.0.1:{place.engine_port}",
    ]
    monitor = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    return [*listen, *monitor, "--policy", "round_robin"]


def _launched_router(place: Place) -> list[str]:
    return ["launch", *_router(place)]


PEERS = (
    Peer("nginx", "nginx", "apt-get install nginx-light", _nginx, "/"),
    Peer("haproxy", "haproxy", "apt-get install haproxy", _haproxy, "/"),
    Peer("vllm-router", "vllm-router", BY_MAKE, _router, "/health"),
    Peer("sglang-router", "sglang-router", BY_MAKE, _launched_router, "/health"),
    Peer("smg", "smg", BY_MAKE, _launched_router, "/health"),
    Peer(
        "LiteLLM",
        "litellm",
        BY_MAKE,
        _litellm,
        "/health/liveliness",
        environment={
            "LITELLM_TELEMETRY": "False",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its table of prices is fetched otherwise
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "DO_NOT_TRACK": "1",
        },
        slow=True,
    ),
)
