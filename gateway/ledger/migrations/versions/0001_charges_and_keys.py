"""Charges and keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "charges",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("caller", sa.String(64)),
        sa.Column("asked", sa.String(256)),
        sa.Column("template", sa.String(64)),
        sa.Column("model", sa.String(128)),
        sa.Column("build", sa.String(64)),
        sa.Column("basis", sa.String(16)),
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("code", sa.String(64)),
        sa.Column("streamed", sa.Boolean, nullable=False),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cached_tokens", sa.Integer),
        sa.Column("cost_nano_usd", sa.BigInteger),
        sa.Column("safe_cost_nano_usd", sa.BigInteger),
        sa.Column("decide_seconds", sa.Float),
        sa.Column("first_chunk_seconds", sa.Float),
        sa.Column("engine_seconds", sa.Float),
        sa.Column("total_seconds", sa.Float, nullable=False),
    )
    op.create_index("charges_at", "charges", ["at"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    op.drop_table("keys")
    op.drop_table("charges")
