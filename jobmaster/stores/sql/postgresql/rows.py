"""Rows of jobs in this database, by key: locked before anything is decided about them, in the order of their keys."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from jobmaster.stores.sql.job_rows import COLUMNS, STATE, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

TYPES = {
    "id": "uuid", "status": "int", "gen": "int", "bucket": "bigint", "nonce": "bigint", "task": "text", "lane": "text",
    "priority": "int", "at_most_once": "smallint", "created_us": "bigint", "scheduled_us": "bigint", "due_us": "bigint",
    "touched_us": "bigint", "expires_us": "bigint", "started_us": "bigint", "finished_us": "bigint", "attempts": "int",
    "failures": "int", "recoveries": "int", "suspect": "smallint", "reason": "text", "worker": "bigint",
    "custom_id": "text", "trigger_kind": "int", "payload": "bytea", "result": "bytea", "result_until_us": "bigint",
    "error": "bytea", "checkpoint": "bytea",
}  # fmt: skip
"""The columns of jm_job and their types in an array."""

INSERT_JOBS = f"INSERT INTO jm_job ({COLUMNS})"
COLUMN_TYPES = [TYPES[name.strip()] for name in COLUMNS.split(",")]
UNLESS_THERE = "ON CONFLICT (id) DO NOTHING"

STATES = f"SELECT {STATE} FROM jm_job WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"

TOMBSTONES = "SELECT job_id FROM jm_tombstone WHERE job_id = ANY($1::uuid[])"


async def insert_jobs(transaction: Transaction, rows: Sequence[Row]) -> int:
    """Insert rows of `job_rows.job_row`; one whose key is there already is left out. Returns how many were new.

    Sorted by key, so that two transactions that insert the same jobs wait for each other in one order.
    """
    return await transaction.insert(
        INSERT_JOBS, COLUMN_TYPES, sorted(rows, key=itemgetter(0)), UNLESS_THERE
    )


async def states(transaction: Transaction, keys: Sequence[JobKey]) -> dict[JobKey, State]:
    """The rows that are there, by key, held until the end of the transaction."""
    if not keys:
        return {}
    return {row[0]: State(*row) for row in await transaction.rows(STATES, list(keys))}


async def tombstoned(transaction: Transaction, keys: Iterable[JobKey]) -> set[JobKey]:
    """Those of the keys whose job was cancelled."""
    wanted = list(keys)
    return {row[0] for row in await transaction.rows(TOMBSTONES, wanted)} if wanted else set()
