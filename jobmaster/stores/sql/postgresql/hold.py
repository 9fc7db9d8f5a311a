"""Held rows (R2), and questions by key: what clients wait for, single jobs as people see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import JobState
from jobmaster.model.states import JobStatus
from jobmaster.rules.storable import due_of
from jobmaster.stores.sql.job_rows import CANCELLED, COLUMNS, HELD, job_row
from jobmaster.stores.sql.postgresql.rows import COLUMN_TYPES, tombstoned
from jobmaster.stores.sql.records import (
    ATTEMPT,
    BUCKET,
    JOB_STATE,
    RECORD,
    WAITING,
    attempt_of,
    bucket_of,
    record_of,
    state_of,
    waiting_record,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import AttemptRecord, JobRecord, NewJob
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

_ARRAYS = ", ".join(f"${index}::{kind}[]" for index, kind in enumerate(COLUMN_TYPES, 1))
HOLD = f"""
INSERT INTO jm_job ({COLUMNS}) SELECT * FROM unnest({_ARRAYS}) ON CONFLICT (id) DO NOTHING RETURNING id
"""

# One statement, so that one moment is seen: a job that ends between two would be in neither table.
ROWS = f"SELECT {JOB_STATE} FROM jm_job WHERE id = ANY($1::uuid[])"
ROWS_AND_MESSAGES = f"""
{ROWS} UNION ALL SELECT job_id, 1, NULL, NULL, '', 0 FROM jm_message WHERE job_id = ANY($1::uuid[])
"""

RECORDS = f"SELECT {RECORD} FROM jm_job"
ONE = f"{RECORDS} WHERE id = $1"
MESSAGE = f"SELECT {WAITING} FROM jm_message WHERE job_id = $1 ORDER BY gen, bucket LIMIT 1"
ATTEMPTS = f"SELECT {ATTEMPT} FROM jm_attempt WHERE job_id = ANY($1::uuid[]) ORDER BY job_id, attempt"
ALL_BUCKETS = f"SELECT {BUCKET} FROM jm_bucket ORDER BY id"


async def hold(transaction: Transaction, jobs: Sequence[NewJob], reason: str) -> list[bool]:
    """R2. A job that was cancelled before it arrived is stored as Cancelled."""
    now_us = await transaction.tick()
    cancelled = await tombstoned(transaction, [job.key for job in jobs])
    rows: dict[JobKey, Row] = {}
    for job in jobs:
        ended = job.key in cancelled
        rows.setdefault(
            job.key,
            job_row(
                job.key,
                job.envelope,
                job.payload,
                status=CANCELLED if ended else HELD,
                due_us=due_of(job, now_us),
                now_us=now_us,
                finished_us=now_us if ended else None,
                suspect=job.verify,
                reason="" if ended else reason,
            ),
        )
    columns = zip(*(rows[key] for key in sorted(rows)), strict=True)
    inserted = {row[0] for row in await transaction.rows(HOLD, *map(list, columns))} if rows else set()
    if inserted:
        transaction.topics.add("held")
    return [_once(inserted, job.key) for job in jobs]


def _once(inserted: set[JobKey], key: JobKey) -> bool:
    """Whether the key was inserted; of a key that came twice the first time."""
    if key not in inserted:
        return False
    inserted.remove(key)
    return True


async def look_up(transaction: Transaction, keys: Sequence[JobKey]) -> list[JobState | None]:
    """Status and outcome by key. A row says more than a message of the same job."""
    statement = ROWS_AND_MESSAGES if transaction.standalone else ROWS
    known: dict[JobKey, JobState] = {}
    for row in await transaction.rows(statement, list(keys)):
        state = state_of(row)
        if state.status is not JobStatus.SAVE_PENDING or state.key not in known:
            known[state.key] = state
    return [known.get(key) for key in keys]


async def get_job(transaction: Transaction, key: JobKey) -> JobRecord | None:
    """One job with its envelope."""
    row = await transaction.row(ONE, key)
    if row is None and transaction.standalone:
        waiting = await transaction.row(MESSAGE, key)
        if waiting is not None:
            return waiting_record(waiting, whole=True)
        row = await transaction.row(ONE, key)  # it may have ended between the two looks
    return None if row is None else record_of(row, whole=True)


async def job_attempts(transaction: Transaction, key: JobKey) -> list[AttemptRecord]:
    """The recorded attempts, first to last."""
    return [attempt_of(row) for row in await transaction.rows(ATTEMPTS, [key])]


async def list_buckets(transaction: Transaction) -> list[Bucket]:
    """All buckets."""
    return [bucket_of(row) for row in await transaction.rows(ALL_BUCKETS)]
