"""The prompt library: versions, labels and their moves, suites, receipts, and what its files were last read as."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = (
    "prompt_versions",
    "prompt_labels",
    "prompt_moves",
    "prompt_suites",
    "prompt_receipts",
    "prompt_files",
    "prompt_library",
)


def upgrade() -> None:
    library = op.create_table(
        "prompt_library",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("policy", sa.Text),
    )
    op.bulk_insert(library, [{"id": 1, "epoch": 0, "policy": None}])
    op.create_table(
        "prompt_versions",
        sa.Column("prompt", sa.String(512), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("parent", sa.Integer),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("prompt", "digest"),
    )
    op.create_table(
        "prompt_labels",
        sa.Column("prompt", sa.String(512), primary_key=True),
        sa.Column("label", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("excluded", sa.Text, nullable=False),
        sa.Column("override_until", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "prompt_moves",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("prompt", sa.String(512), nullable=False),
        sa.Column("label", sa.String(36), nullable=False),
        sa.Column("came_from", sa.Integer),
        sa.Column("went_to", sa.Integer, nullable=False),
        sa.Column("excluded", sa.Text, nullable=False),
        sa.Column("mover", sa.String(128), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("override_role", sa.String(128)),
        sa.Column("override_reason", sa.Text),
        sa.Column("override_until", sa.DateTime(timezone=True)),
        sa.Column("gate", sa.Text),
    )
    op.create_index("prompt_moves_label", "prompt_moves", ["prompt", "label"])
    op.create_table(
        "prompt_suites",
        sa.Column("prompt", sa.String(512), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "prompt_receipts",
        sa.Column("prompt", sa.String(512), primary_key=True),
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("suite", sa.String(64), nullable=False),
        sa.Column("template", sa.String(64), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
    )
    op.create_table(
        "prompt_files",
        sa.Column("prompt", sa.String(512), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("head", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
