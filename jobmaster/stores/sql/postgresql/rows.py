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

NEEDED = {
    "status": "0", "gen": "0", "priority": "0", "created_us": "0", "scheduled_us": "0", "due_us": "0",
    "touched_us": "0", "payload": "''",
}  # fmt: skip
"""Columns that a new row must be given, and what stands there in a row that is never new."""

INSERT_JOBS = f"INSERT INTO jm_job ({COLUMNS})"
COLUMN_TYPES = [TYPES[name.strip()] for name in COLUMNS.split(",")]
UNLESS_THERE = "ON CONFLICT (id) DO NOTHING"
_ARRAYS = ", ".join(f"${index}::{kind}[]" for index, kind in enumerate(COLUMN_TYPES, 1))
INSERT_ABSENT = f"{INSERT_JOBS} SELECT * FROM unnest({_ARRAYS}) {UNLESS_THERE} RETURNING id"

STATES = f"SELECT {STATE} FROM jm_job WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"

TOMBSTONES = "SELECT job_id FROM jm_tombstone WHERE job_id = ANY($1::uuid[])"


class Change:
    """One statement that changes many rows, each with values of its own.

    An insert that always finds its row there: it goes by the unique index whatever the planner believes about the
    table, which a join of the table with arrays does not.

    Args:
        names: the columns whose new values are given, besides the key.
        assignments: `column = expression` each, where `excluded.<name>` is the value given.
    """

    def __init__(self, names: Sequence[str], assignments: str) -> None:
        fill = {name: value for name, value in NEEDED.items() if name not in names}
        arrays = ", ".join(f"${index}::{TYPES[name]}[]" for index, name in enumerate(("id", *names), 1))
        self.statement = f"""
            INSERT INTO jm_job (id, {", ".join((*names, *fill))}) SELECT u.*, {", ".join(fill.values())}
            FROM unnest({arrays}) AS u ON CONFLICT (id) DO UPDATE SET {assignments}
        """

    async def apply(self, transaction: Transaction, rows: Sequence[Row]) -> None:
        """Change these rows, which the transaction holds: (key, values in the order of the names) each."""
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await transaction.changed(self.statement, *columns)


async def insert_absent(transaction: Transaction, rows: Sequence[Row]) -> set[JobKey]:
    """As `insert_jobs`, for rows that a decision needs: returns which were new.

    A key that is not returned has a row by now, of somebody who was faster; it is to be read and decided again.
    """
    if not rows:
        return set()
    columns = [list(column) for column in zip(*sorted(rows, key=itemgetter(0)), strict=True)]
    return {row[0] for row in await transaction.rows(INSERT_ABSENT, *columns)}


async def insert_jobs(transaction: Transaction, rows: Sequence[Row]) -> int:
    """Insert rows of `job_rows.job_row`; one whose key is there already is left out. Returns how many were new.

    Sorted by key, so that two transactions that insert the same jobs wait for each other in one order.
    """
    return await transaction.insert(INSERT_JOBS, COLUMN_TYPES, sorted(rows, key=itemgetter(0)), UNLESS_THERE)


async def states(transaction: Transaction, keys: Sequence[JobKey]) -> dict[JobKey, State]:
    """The rows that are there, by key, held until the end of the transaction."""
    if not keys:
        return {}
    return {row[0]: State(*row) for row in await transaction.rows(STATES, list(keys))}


async def tombstoned(transaction: Transaction, keys: Iterable[JobKey]) -> set[JobKey]:
    """Those of the keys whose job was cancelled. Asked after their rows are held: a cancel waits for these."""
    wanted = list(keys)
    return {row[0] for row in await transaction.rows(TOMBSTONES, wanted)} if wanted else set()
