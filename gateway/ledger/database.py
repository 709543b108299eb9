"""Opens the ledger's database and brings it to the newest migration. Knows SQLite's and PostgreSQL's differences."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

MIGRATIONS = Path(__file__).with_name("migrations")
UNREADABLE = (OperationalError, PoolTimeoutError)  # locked, full or gone: mendable, and no fault of a request's
BUSY_TIMEOUT_SECONDS = 5  # another process (the CLI) holds the write lock for milliseconds; shutdown waits this long


class DatabaseError(Exception):
    """The database cannot be used; the message says what to do."""


def open_database(url: str) -> Engine:
    """Connect and migrate up. Raises DatabaseError."""
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_SECONDS} if sqlite else {})
        if sqlite:
            event.listen(engine, "connect", _set_up_sqlite)
        migrate(engine)
    except (SQLAlchemyError, CommandError, OSError, ImportError, ValueError) as error:  # ValueError: a port of letters
        shown = str(error).splitlines()[0]
        raise DatabaseError(
            f"the database {url.split('@')[-1]} cannot be used: {shown}; check POINTSMAN_DATABASE_URL and the disk, "
            "and that no newer Pointsman has written it"
        ) from error
    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; nothing happens when it is there."""
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def newest_revision() -> str:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config).get_current_head() or ""


def _set_up_sqlite(connection, record) -> None:  # type: ignore[no-untyped-def]  # SQLAlchemy's event types are private
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers do not wait for the writer
    cursor.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing; a power cut may lose the last moment
    cursor.close()
