"""Recurring schedules and their occurrences."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column

from jobmaster.stores.sql.columns import OPTIONS, blob, count, flag, key, long_words, moment, where, words

revision = "0002"
down_revision = "0001"
oldest_code = "0001"

ON_POSTGRESQL = """
-- Rows that change often and are few.
ALTER TABLE jm_schedule SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500)
"""


def upgrade() -> None:
    op.create_table(
        "jm_schedule",
        Column("id", key(), primary_key=True),
        words("name"),
        count("kind", None),
        count("status", None),
        flag("paused"),
        words("error", 1_000),
        long_words("expression"),
        Column("rule", blob(), nullable=False),
        words("task"),
        words("lane"),
        count("priority", None),
        Column("template", blob(), nullable=False),
        words("source"),
        Column("version", BigInteger, nullable=False),
        moment("created_us"),
        moment("since_us"),
        moment("cursor_us", nullable=True),
        moment("plan_at_us", nullable=True),
        moment("last_at_us", nullable=True),
        moment("ensured_us"),
        moment("ended_us", nullable=True),
        Column("current_job", key(), nullable=True),
        **OPTIONS,
    )
    op.create_index("jm_schedule_due", "jm_schedule", ["plan_at_us"], **where("plan_at_us IS NOT NULL"))
    if op.get_context().dialect.name not in {"mysql", "mariadb"}:  # which have no partial indexes
        op.create_index("jm_schedule_name", "jm_schedule", ["name"], unique=True, **where("name <> '' AND status <> 3"))
    op.create_table(
        "jm_occurrence",
        Column("schedule", key(), primary_key=True),
        Column("at_us", BigInteger, primary_key=True, autoincrement=False),
        Column("job_id", key(), nullable=False),
        count("trigger_kind", None),
        flag("waits"),
        moment("created_us"),
        **OPTIONS,
    )
    op.create_index("jm_occurrence_at", "jm_occurrence", ["at_us"])
    op.create_index("jm_occurrence_waits", "jm_occurrence", ["schedule", "at_us"], **where("waits = 1"))
    if op.get_context().dialect.name == "postgresql":
        op.execute(ON_POSTGRESQL)
