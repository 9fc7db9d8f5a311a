"""Notes: a column, a table and wider texts."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

from jobmaster.stores.sql.columns import words
from jobmaster.stores.sql.online import hold

revision = "0003"
down_revision = "0002"
oldest_code = "0001"

TABLES = ("jm_job", "jm_message", "jm_worker", "jm_bucket")


def upgrade() -> None:
    hold(*TABLES)
    for table in TABLES:
        op.add_column(table, words("note", 64))
    op.create_table("jm_note", Column("id", BigInteger, primary_key=True), Column("said", Text, nullable=False))
    if op.get_context().dialect.name == "postgresql":
        # No page is rewritten, but what a prepared statement answers has another type now.
        op.execute("ALTER TABLE jm_bucket ALTER COLUMN agent TYPE VARCHAR(300), ALTER COLUMN lane TYPE VARCHAR(300)")
        op.execute("ALTER TABLE jm_worker ALTER COLUMN agent TYPE VARCHAR(300)")
        op.execute("ALTER TABLE jm_job ALTER COLUMN reason TYPE VARCHAR(100), ALTER COLUMN task TYPE VARCHAR(300)")
