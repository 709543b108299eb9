"""Which version of a prompt a request was answered with."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

COLUMNS = ("prompt", "prompt_version", "prompt_variant")


def upgrade() -> None:
    op.add_column("charges", sa.Column("prompt", sa.String(512)))
    op.add_column("charges", sa.Column("prompt_version", sa.Integer))
    op.add_column("charges", sa.Column("prompt_variant", sa.String(32)))


def downgrade() -> None:
    with op.batch_alter_table("charges") as charges:  # SQLite cannot drop columns in place
        for name in COLUMNS:
            charges.drop_column(name)
