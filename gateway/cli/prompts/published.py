"""The records of the prompt library, as the gateway's database has them, for commands."""

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.tiers import lineup_of
from gateway.ledger.database import open_database
from gateway.library.errors import LibraryError
from gateway.library.records import Who
from gateway.library.store import LibraryStore
from gateway.settings import Settings
from prompts.library import PromptNotFound
from prompts.reference import ReferenceRefused


@contextmanager
def library_store(settings: Settings) -> Iterator[LibraryStore]:
    """The store of the settings' database, with the models that they serve. What it refuses is one error."""
    database = open_database(settings.database)
    try:
        yield LibraryStore(database, lineup_of(settings), where=settings.database_shown)
    except (LibraryError, PromptNotFound, ReferenceRefused) as error:
        raise PromptsFailed(str(error)) from error
    finally:
        database.dispose()


def is_there(settings: Settings) -> bool:
    """Whether there is a database at all: none is made by looking for one."""
    parsed = make_url(settings.database)
    return parsed.get_backend_name() != "sqlite" or bool(parsed.database and Path(parsed.database).exists())


def published_digests(settings: Settings, label: str) -> Mapping[str, str]:
    """By prompt, the digest of the version that *label* points to."""
    if not is_there(settings):
        return {}
    with library_store(settings) as store:
        library = store.library()
    return {
        prompt: library.versions[prompt][labels[label]].template.digest
        for prompt, labels in library.labels.items()
        if label in labels
    }


def operator(*roles: str | None) -> Who:
    """Whoever runs the command: this machine's user, in the roles that they say. A database's owner is trusted."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = "operator"
    return Who(f"{name} (command line)", frozenset(role for role in roles if role))
