"""What a key may do, budgets, and the counters of limits that several processes share."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("keys", sa.Column("role", sa.String(16), nullable=False, server_default="client"))
    op.add_column("keys", sa.Column("team", sa.String(128)))
    op.add_column("keys", sa.Column("models", sa.Text))
    op.add_column("keys", sa.Column("templates", sa.Text))
    op.add_column("keys", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.create_table(
        "budgets",
        sa.Column("scope", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("day_nano_usd", sa.BigInteger),
        sa.Column("month_nano_usd", sa.BigInteger),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_minute", sa.Integer),
        sa.Column("concurrency", sa.Integer),
    )
    op.create_table(
        "limit_counters",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("forget_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "limit_holds",
        sa.Column("reservation", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("limit_holds_expires", "limit_holds", ["expires_ms"])


def downgrade() -> None:
    op.drop_table("limit_holds")
    op.drop_table("limit_counters")
    op.drop_table("budgets")
    with op.batch_alter_table("keys") as keys:  # SQLite cannot drop columns in place
        for column in ("expires_at", "templates", "models", "team", "role"):
            keys.drop_column(column)
