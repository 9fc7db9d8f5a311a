"""Rows of jobs in this database, by key, and whether a job was cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.stores.sql.job_rows import COLUMNS, STATE, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.stores.sql.sqlite.transaction import Transaction

INSERT_JOBS = f"INSERT INTO jm_job ({COLUMNS}) VALUES "

STATES = f"""
SELECT {STATE} FROM jm_job WHERE id IN ({{keys}})
"""

TOMBSTONES = "SELECT job_id FROM jm_tombstone WHERE job_id IN ({keys})"
ANY_TOMBSTONE = "SELECT EXISTS (SELECT 1 FROM jm_tombstone LIMIT 1)"


def states(transaction: Transaction, keys: Sequence[JobKey]) -> dict[JobKey, State]:
    """The rows that are there, by key."""
    return {row[0]: State(*row) for row in transaction.by_keys(STATES, keys)}


def tombstoned(transaction: Transaction, keys: Iterable[JobKey]) -> set[JobKey]:
    """Those of the keys whose job was cancelled."""
    wanted = list(keys)
    if not wanted or not transaction.execute(ANY_TOMBSTONE).fetchone()[0]:
        return set()
    return {row[0] for row in transaction.by_keys(TOMBSTONES, wanted)}
