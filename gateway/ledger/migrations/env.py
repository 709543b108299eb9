"""Alembic's entry: migrates over the connection that `gateway.ledger.database` hands in."""

from alembic import context

from gateway.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter columns in place
)
with context.begin_transaction():
    context.run_migrations()
