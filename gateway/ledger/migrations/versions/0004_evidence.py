"""What the router learns at run time, and which feedback is still to be counted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "evidence",
        sa.Column("template", sa.String(64), nullable=False),
        sa.Column("build", sa.String(64), nullable=False),
        sa.Column("place", sa.Integer, nullable=False, unique=True),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("template", "build"),
    )
    op.create_index("evidence_updated_at", "evidence", ["updated_at"])
    op.add_column("charges", sa.Column("evidence_group", sa.String(64)))
    op.add_column("feedback", sa.Column("due", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("feedback", sa.Column("counted", sa.Boolean))
    op.create_index("feedback_due", "feedback", ["due"])


def downgrade() -> None:
    op.drop_index("feedback_due", "feedback")
    with op.batch_alter_table("feedback") as feedback:  # SQLite cannot drop columns in place
        feedback.drop_column("counted")
        feedback.drop_column("due")
    with op.batch_alter_table("charges") as charges:
        charges.drop_column("evidence_group")
    op.drop_table("evidence")
