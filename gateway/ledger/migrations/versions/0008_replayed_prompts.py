"""Which version of a prompt an answer is of that is kept under an idempotency key."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

COLUMNS = ("prompt", "prompt_version", "prompt_variant")


def upgrade() -> None:
    op.add_column("idempotency", sa.Column("prompt", sa.String(512)))
    op.add_column("idempotency", sa.Column("prompt_version", sa.Integer))
    op.add_column("idempotency", sa.Column("prompt_variant", sa.String(32)))


def downgrade() -> None:
    with op.batch_alter_table("idempotency") as idempotency:  # SQLite cannot drop columns in place
        for name in COLUMNS:
            idempotency.drop_column(name)
