"""Which version of a prompt a request was answered with, and which receipts of versions the router has counted."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

COLUMNS = ("prompt", "prompt_version", "prompt_variant")


def upgrade() -> None:
    op.add_column("charges", sa.Column("prompt", sa.String(512)))
    op.add_column("charges", sa.Column("prompt_version", sa.Integer))
    op.add_column("charges", sa.Column("prompt_variant", sa.String(32)))
    op.create_table(
        "suite_outcomes",
        sa.Column("template", sa.String(64), nullable=False),
        sa.Column("build", sa.String(64), nullable=False),
        sa.Column("receipt", sa.String(32), nullable=False),
        sa.Column("suite", sa.String(64), nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("cases", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("template", "build"),
    )


def downgrade() -> None:
    op.drop_table("suite_outcomes")
    with op.batch_alter_table("charges") as charges:  # SQLite cannot drop columns in place
        for name in COLUMNS:
            charges.drop_column(name)
