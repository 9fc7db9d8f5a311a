"""The tables, written once for all dialects. Only the migrator and people's queries import this (it costs SQLAlchemy).

Names begin with `jm_`. Moments are microseconds since the epoch (UTC) in 64-bit integers, on every dialect. Keys are 16
bytes. What each index is for stands beside it; an index that no statement needs costs every insert.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, text

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
    long_words,
    moment,
    number,
    text_type,
    unless_mysql,
    unless_postgresql,
    where,
    words,
)

metadata = MetaData()


def _table(name: str, *items: Column[Any] | Index, **options: Any) -> Table:
    numbered = any(isinstance(item, Column) and item.primary_key and item.autoincrement is True for item in items)
    return Table(name, metadata, *items, **(NUMBERED if numbered else OPTIONS), **options)


cluster = _table(
    "jm_cluster",
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1: a database holds one cluster
    words("cluster"),
    count("version", None),
    Column("settings", blob(), nullable=False),
)

definition = _table(
    "jm_definition",
    Column("name", text_type(NAME), primary_key=True),
    words("lane"),
    count("priority", 3),
    flag("at_most_once"),
    Column("signature", blob(), nullable=False),
    Column("source", blob(), nullable=False),
    Column("defaults", blob(), nullable=False),
)

worker = _table(
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
    words("schema_version", 32),  # the newest schema that its code knows
    moment("started_us"),
    moment("renewed_us"),
    moment("lease_until_us"),
    Column("number", BigInteger, nullable=False, server_default=text("0")),
    flag("ended"),
    flag("stopping"),
    Column("stats", blob(), nullable=False),
    Column("demands", blob(), nullable=False),
    Index("jm_worker_name", "name", "boot", unique=True),
    # No column that a renewal changes: PostgreSQL then rewrites the row beside the old one, and no index.
    Index("jm_worker_living", "agent", **where("ended = 0")),
)

bucket = _table(
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
    moment("left_us"),  # since when nobody owns it
    Column("depth", BigInteger, nullable=False, server_default=text("0")),
    flag("clean"),
    Index("jm_bucket_token", "token", unique=True),
    Index("jm_bucket_owner", "owner"),
    Index("jm_bucket_place", "agent", "lane", "priority", "status"),
)

agent_bucket = _table(
    "jm_agent_bucket",
    Column("id", number(), primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    flag("closing"),
)

message = _table(
    "jm_message",
    # Numbers are never given twice: an emptied table must not start again below an owner's cursor. On PostgreSQL the
    # bucket stands in the upper bits, so that one index serves the reads and the removals of all buckets.
    Column("seq", number(), primary_key=True, autoincrement=True),
    Column("bucket", BigInteger, nullable=False),
    Column("job_id", key(), nullable=False),
    Column("gen", Integer, nullable=False),
    moment("due_us"),
    flag("later"),  # not due when it was stored
    flag("verify"),
    flag("at_most_once"),
    words("task"),
    Column("custom_id", text_type(NAME), nullable=True),
    moment("created_us"),
    Column("payload", blob(), nullable=False),
    unless_postgresql(Index("jm_message_bucket", "bucket", "seq")),  # the owner's read
    Index("jm_message_key", "job_id", "gen", "bucket", unique=True),  # a repeated push, and what people ask by id
    Index(
        "jm_message_later", "bucket", "due_us", "seq", **where("later = 1")
    ),  # delayed ones, found when they fall due
)

job = _table(
    "jm_job",
    # On SQLite a table with row numbers: faster than one ordered by key as it grows.
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
    moment("finished_us", nullable=True),  # set on final rows only
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
    moment("result_until_us", nullable=True),  # final rows whose result goes before they do
    Column("error", blob(), nullable=True),
    Column("checkpoint", blob(), nullable=True),
    Index("jm_job_held", "lane", "priority", "due_us", **where("status = 2 AND reason <> 'unroutable'")),  # claims
    Index("jm_job_unroutable", "task", **where("status = 2 AND reason = 'unroutable'")),  # a task that appears
    Index("jm_job_open", "bucket", "status", **where("status IN (3, 4, 6)")),  # recovery, and what runs now
    Index("jm_job_expires", "expires_us", **where("status = 2 AND expires_us IS NOT NULL")),  # the deadline sweep
    Index("jm_job_finished", "finished_us", **where("finished_us IS NOT NULL"), **BY_TIME),  # retention
    Index("jm_job_result", "result_until_us", **where("result_until_us IS NOT NULL")),  # keep_result
    Index("jm_job_created", "created_us", "id"),  # lists, newest first
    Index("jm_job_failed", "created_us", "id", **where("status = 7")),  # what people look for
    **BY_KEY,
)

attempt = _table(
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
)

tombstone = _table(
    "jm_tombstone",
    Column(
        "number", number(), primary_key=True, autoincrement=True
    ),  # renewals carry those above the last one that was told
    Column("job_id", key(), nullable=False),
    moment("created_us"),
    words("answer", 16),
    Index("jm_tombstone_job", "job_id", unique=True),
)

blame = _table(
    "jm_blame",
    Column("job_id", key(), primary_key=True),
    Column("worker", BigInteger, primary_key=True, autoincrement=False),
    words("reason"),
    flag("counted"),
    moment("created_us"),
)

command = _table(
    "jm_command",
    Column("id", number(), primary_key=True, autoincrement=True),
    Column("worker", BigInteger, nullable=False),
    words("verb", 64),
    Column("args", blob(), nullable=False),
    moment("created_us"),
    moment("answered_us", nullable=True),
    Column("reply", blob(), nullable=True),
    Index("jm_command_open", "worker", "id", **where("answered_us IS NULL")),
)

schedule = _table(
    "jm_schedule",
    Column("id", key(), primary_key=True),
    words("name"),
    count("kind", None),
    count("status", None),
    flag("paused"),
    words("error", 1_000),
    long_words("expression"),  # the rule's text once more, for people who search
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
    moment("plan_at_us", nullable=True),  # set where a planner has to look at it again
    moment("last_at_us", nullable=True),
    moment("ensured_us"),
    moment("ended_us", nullable=True),
    Column("current_job", key(), nullable=True),
    Index("jm_schedule_due", "plan_at_us", **where("plan_at_us IS NOT NULL")),  # a planner's pass
    unless_mysql(Index("jm_schedule_name", "name", unique=True, **where("name <> '' AND status <> 3"))),
)

occurrence = _table(
    "jm_occurrence",
    Column("schedule", key(), primary_key=True),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", key(), nullable=False),
    count("trigger_kind", None),
    flag("waits"),  # it was told to wait for an earlier one; a hint: its job's row decides
    moment("created_us"),
    Index("jm_occurrence_at", "at_us"),  # retention
    Index("jm_occurrence_waits", "schedule", "at_us", **where("waits = 1")),  # whose turn is next
)
