"""The first tables: cluster, definitions, workers, buckets, messages, jobs, attempts, tombstones, blames, commands."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, text

from jobmaster.stores.sql.columns import (
    BY_KEY,
    BY_TIME,
    NAME,
    NUMBERED,
    OPTIONS,
    REASON,
    blob,
    count,
    flag,
    key,
    moment,
    number,
    text_type,
    where,
    words,
)

revision = "0001"
down_revision = None
oldest_code = "0001"

ON_POSTGRESQL = """
-- Keys that no week's partition takes: ids that callers chose, and those of weeks before the first worker.
CREATE TABLE jm_job_default PARTITION OF jm_job DEFAULT;
-- Rows that change often and are few: room on their pages, and a vacuum that does not wait for a share of them.
ALTER TABLE jm_worker SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
ALTER TABLE jm_bucket SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
-- Inserted and deleted, never updated: its size says nothing about what is dead in it.
ALTER TABLE jm_message SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0)
"""


def upgrade() -> None:
    op.add_column("jm_schema", words("oldest_code", 32))
    op.create_table(
        "jm_cluster",
        Column("id", Integer, primary_key=True, autoincrement=False),
        words("cluster"),
        count("version", None),
        Column("settings", blob(), nullable=False),
        **OPTIONS,
    )
    op.create_table(
        "jm_definition",
        Column("name", text_type(NAME), primary_key=True),
        words("lane"),
        count("priority", 3),
        flag("at_most_once"),
        Column("signature", blob(), nullable=False),
        Column("source", blob(), nullable=False),
        Column("defaults", blob(), nullable=False),
        **OPTIONS,
    )
    op.create_table(
        "jm_worker",
        Column("id", number(), primary_key=True, autoincrement=True),
        words("name"),
        Column("boot", BigInteger, nullable=False),
        words("agent"),
        Column("lanes", blob(), nullable=False),
        count("mode", None),
        words("host"),
        Column("pid", BigInteger, nullable=False),
        Column("slots", BigInteger, nullable=False),
        words("version"),
        words("schema_version", 32),
        moment("started_us"),
        moment("renewed_us"),
        moment("lease_until_us"),
        Column("number", BigInteger, nullable=False, server_default=text("0")),
        flag("ended"),
        flag("stopping"),
        Column("stats", blob(), nullable=False),
        Column("demands", blob(), nullable=False),
        **NUMBERED,
    )
    op.create_index("jm_worker_name", "jm_worker", ["name", "boot"], unique=True)
    op.create_index("jm_worker_living", "jm_worker", ["agent"], **where("ended = 0"))
    op.create_table(
        "jm_bucket",
        Column("id", number(), primary_key=True, autoincrement=True),
        words("token"),
        words("agent"),
        words("lane"),
        count("priority", None),
        Column("epoch", BigInteger, nullable=False),
        count("status", None),
        Column("owner", BigInteger, nullable=True),
        moment("adopted_us"),
        moment("left_us"),
        Column("depth", BigInteger, nullable=False, server_default=text("0")),
        flag("clean"),
        **NUMBERED,
    )
    op.create_index("jm_bucket_token", "jm_bucket", ["token"], unique=True)
    op.create_index("jm_bucket_owner", "jm_bucket", ["owner"])
    op.create_index("jm_bucket_place", "jm_bucket", ["agent", "lane", "priority", "status"])
    op.create_table(
        "jm_agent_bucket",
        Column("id", number(), primary_key=True, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        flag("closing"),
        **OPTIONS,
    )
    op.create_table(
        "jm_message",
        Column("seq", number(), primary_key=True, autoincrement=True),
        Column("bucket", BigInteger, nullable=False),
        Column("job_id", key(), nullable=False),
        Column("gen", Integer, nullable=False),
        moment("due_us"),
        flag("later"),
        flag("verify"),
        flag("at_most_once"),
        words("task"),
        Column("custom_id", text_type(NAME), nullable=True),
        moment("created_us"),
        Column("payload", blob(), nullable=False),
        **NUMBERED,
    )
    if op.get_context().dialect.name != "postgresql":
        op.create_index("jm_message_bucket", "jm_message", ["bucket", "seq"])
    op.create_index("jm_message_key", "jm_message", ["job_id", "gen", "bucket"], unique=True)
    op.create_index("jm_message_later", "jm_message", ["bucket", "due_us", "seq"], **where("later = 1"))
    op.create_table(
        "jm_job",
        Column("id", key(), primary_key=True),
        count("status", None),
        count("gen", None),
        Column("bucket", BigInteger, nullable=True),
        Column("nonce", BigInteger, nullable=True),
        words("task"),
        words("lane"),
        count("priority", None),
        flag("at_most_once"),
        moment("created_us"),
        moment("scheduled_us"),
        moment("due_us"),
        moment("touched_us"),
        moment("expires_us", nullable=True),
        moment("started_us", nullable=True),
        moment("finished_us", nullable=True),
        count("attempts"),
        count("failures"),
        count("recoveries"),
        flag("suspect"),
        words("reason", REASON),
        Column("worker", BigInteger, nullable=True),
        Column("custom_id", text_type(NAME), nullable=True),
        count("trigger_kind", 1),
        Column("payload", blob(), nullable=False),
        Column("result", blob(), nullable=True),
        moment("result_until_us", nullable=True),
        Column("error", blob(), nullable=True),
        Column("checkpoint", blob(), nullable=True),
        **OPTIONS,
        **BY_KEY,
    )
    op.create_index(
        "jm_job_held", "jm_job", ["lane", "priority", "due_us"], **where("status = 2 AND reason <> 'unroutable'")
    )
    op.create_index("jm_job_unroutable", "jm_job", ["task"], **where("status = 2 AND reason = 'unroutable'"))
    op.create_index("jm_job_open", "jm_job", ["bucket", "status"], **where("status IN (3, 4, 6)"))
    op.create_index("jm_job_expires", "jm_job", ["expires_us"], **where("status = 2 AND expires_us IS NOT NULL"))
    op.create_index("jm_job_finished", "jm_job", ["finished_us"], **where("finished_us IS NOT NULL"), **BY_TIME)
    op.create_index("jm_job_result", "jm_job", ["result_until_us"], **where("result_until_us IS NOT NULL"))
    op.create_index("jm_job_created", "jm_job", ["created_us", "id"])
    op.create_index("jm_job_failed", "jm_job", ["created_us", "id"], **where("status = 7"))
    op.create_table(
        "jm_attempt",
        Column("job_id", key(), primary_key=True),
        Column("attempt", Integer, primary_key=True, autoincrement=False),
        count("status", None),
        Column("worker", BigInteger, nullable=True),
        Column("bucket", BigInteger, nullable=True),
        moment("started_us", nullable=True),
        moment("finished_us", nullable=True),
        words("reason", REASON),
        Column("error", blob(), nullable=True),
        **OPTIONS,
    )
    op.create_table(
        "jm_tombstone",
        Column("number", number(), primary_key=True, autoincrement=True),
        Column("job_id", key(), nullable=False),
        moment("created_us"),
        words("answer", 16),
        **NUMBERED,
    )
    op.create_index("jm_tombstone_job", "jm_tombstone", ["job_id"], unique=True)
    op.create_table(
        "jm_blame",
        Column("job_id", key(), primary_key=True),
        Column("worker", BigInteger, primary_key=True, autoincrement=False),
        words("reason"),
        flag("counted"),
        moment("created_us"),
        **OPTIONS,
    )
    op.create_table(
        "jm_command",
        Column("id", number(), primary_key=True, autoincrement=True),
        Column("worker", BigInteger, nullable=False),
        words("verb", 64),
        Column("args", blob(), nullable=False),
        moment("created_us"),
        moment("answered_us", nullable=True),
        Column("reply", blob(), nullable=True),
        **NUMBERED,
    )
    op.create_index("jm_command_open", "jm_command", ["worker", "id"], **where("answered_us IS NULL"))
    if op.get_context().dialect.name == "postgresql":
        for statement in ON_POSTGRESQL.split(";\n"):
            op.execute(statement)
