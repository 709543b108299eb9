"""What each decision was made from, so that it can be explained and made again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("charges", sa.Column("decision", sa.Text))


def downgrade() -> None:
    with op.batch_alter_table("charges") as charges:  # SQLite cannot drop columns in place
        charges.drop_column("decision")
