"""Definitions lose their source, which code of 0002 writes when a worker starts."""

from alembic import op

revision = "0005"
down_revision = "0004"
oldest_code = "0003"


def upgrade() -> None:
    op.drop_column("jm_definition", "source")
