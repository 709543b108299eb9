"""What single requests cost, as the ledger has it. Reads; blocking."""

from collections.abc import Iterable
from time import monotonic, sleep

from sqlalchemy import Engine, select

from gateway.ledger.charge import usd_of
from gateway.ledger.tables import charges
from router.ways import Spent

IDS_PER_QUERY = 500  # SQLite takes some 32,000 parameters, others fewer
POLL_SECONDS = 0.05


def spent_on(database: Engine, request_ids: Iterable[str], *, patience_seconds: float) -> dict[str, Spent]:
    """By request id, what of *request_ids* the ledger has. A charge is there a moment after its answer: for those that
    are missing it is looked again, up to *patience_seconds* in all.
    """
    missing, found = set(request_ids), dict[str, Spent]()
    deadline = monotonic() + patience_seconds
    while True:
        found.update(_read(database, sorted(missing)))
        missing -= found.keys()
        if not missing or monotonic() >= deadline:
            return found
        sleep(POLL_SECONDS)


def _read(database: Engine, request_ids: list[str]) -> dict[str, Spent]:
    read = {}
    with database.connect() as connection:
        for start in range(0, len(request_ids), IDS_PER_QUERY):
            part = request_ids[start : start + IDS_PER_QUERY]
            wanted = select(charges.c.id, charges.c.cost_nano_usd, charges.c.discarded_tokens)
            for request_id, nano, discarded in connection.execute(wanted.where(charges.c.id.in_(part))):
                read[request_id] = Spent(usd_of(nano), discarded)
    return read
