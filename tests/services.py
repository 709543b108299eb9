"""Real servers in a folder and on a port of their own, for the tests that are marked `services`."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.fakes import unused_port
from tests.processes import until

START_SECONDS = 30.0
POSTGRES_FOLDERS = "/usr/lib/postgresql/*/bin"  # where Debian keeps the server's programs, not on the path
POSTGRES_OWNERS = ("postgres", "nobody")  # it refuses to run as root


@contextmanager
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of an empty Redis or Valkey that keeps nothing on disk, and its process."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server or valkey-server here; on Debian: apt-get install redis-server")
    port = unused_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with _serving(command, port) as process:
            yield f"redis://127.0.0.1:{port}/0", process


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty PostgreSQL."""
    found = [shutil.which("initdb"), *(str(path / "initdb") for path in Path("/").glob(POSTGRES_FOLDERS[1:]))]
    initdb = next((Path(path).resolve() for path in found if path and Path(path).exists()), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server here; on Debian: apt-get install postgresql")
    port, owner = unused_port(), _owner()
    folder = Path(tempfile.mkdtemp(prefix="pointsman-postgres-"))
    try:
        if owner is not None:
            os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
        data = str(folder / "data")
        making = [str(initdb), "-D", data, "-U", "pointsman", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-locale"]
        subprocess.run(making, check=True, capture_output=True, user=owner, cwd=folder)
        settings = ["fsync=off", f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        command = [str(initdb.with_name("postgres")), "-D", data]
        command += [word for setting in settings for word in ("-c", setting)]
        with _serving(command, port, owner, folder):
            until(lambda: _lets_in(port), START_SECONDS, "PostgreSQL lets somebody in")  # it listens before that
            yield f"postgresql+psycopg://pointsman@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)


@contextmanager
def _serving(
    command: list[str], port: int, owner: str | None = None, folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, user=owner, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: process.poll() is not None or _answers(port), START_SECONDS, f"{command[0]} answers")
        assert process.poll() is None, f"{command[0]} ended at once"
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _lets_in(port: int) -> bool:
    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=pointsman dbname=postgres", connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True


def _owner() -> str | None:
    """Whom the server runs as; None for ourselves."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in POSTGRES_OWNERS if name in names)
