"""The library in both databases."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from gateway.ledger.database import open_database
from gateway.library.store import LibraryStore
from tests.gateway.library.world import LINEUP, NOW
from tests.services import postgres_server

numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server of which each test gets a database of its own."""
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty one."""
    if request.param == "postgres":
        return _new_database(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    opened = open_database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def store(database: Engine) -> LibraryStore:
    return LibraryStore(database, LINEUP, clock=lambda: NOW)


def _new_database(url: str) -> str:
    name = f"library_{next(numbers)}"
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"create database {name}"))
    server.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)
