"""Definitions lose their source, which code of 0001 writes when a worker starts."""

from alembic import op

revision = "0004"
down_revision = "0003"
oldest_code = "0002"


def upgrade() -> None:
    op.drop_column("jm_definition", "source")
