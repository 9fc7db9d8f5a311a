"""Questions by key: what clients wait for, and single jobs as people see them. Lists and filters: ../queries.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import AttemptRecord, JobRecord, JobState
from jobmaster.model.states import JobStatus
from jobmaster.stores.sql.records import (
    BUCKET,
    JOB_STATE,
    RECORD,
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
    from jobmaster.stores.sql.sqlite.transaction import Transaction

STATES = f"SELECT {JOB_STATE} FROM jm_job WHERE id IN ({{keys}})"
WAITING = "SELECT job_id FROM jm_message WHERE job_id IN ({keys})"

RECORDS = f"SELECT {RECORD} FROM jm_job "
ONE = RECORDS + "WHERE id = ?"
MESSAGE = "SELECT job_id, gen, bucket, due_us, payload FROM jm_message WHERE job_id = ? ORDER BY gen, bucket LIMIT 1"
ATTEMPTS = """
SELECT job_id, attempt, status, worker, bucket, started_us, finished_us, error, reason FROM jm_attempt
WHERE job_id = ? ORDER BY attempt
"""
ALL_BUCKETS = f"SELECT {BUCKET} FROM jm_bucket ORDER BY id"


def look_up(transaction: Transaction, keys: Sequence[JobKey]) -> list[JobState | None]:
    """Status and outcome by key."""
    known = {row[0]: state_of(row) for row in transaction.by_keys(STATES, keys)}
    absent = [key for key in keys if key not in known]
    if absent and transaction.standalone:
        for (key,) in transaction.by_keys(WAITING, absent):
            known[key] = JobState(key, JobStatus.SAVE_PENDING)
    return [known.get(key) for key in keys]


def get_job(transaction: Transaction, key: JobKey) -> JobRecord | None:
    """One job with its envelope."""
    row = transaction.row(ONE, (key,))
    if row is not None:
        return record_of(row, whole=True)
    waiting = transaction.row(MESSAGE, (key,)) if transaction.standalone else None
    return None if waiting is None else waiting_record(waiting, whole=True)


def job_attempts(transaction: Transaction, key: JobKey) -> list[AttemptRecord]:
    """The recorded attempts, first to last."""
    return [attempt_of(row) for row in transaction.rows(ATTEMPTS, (key,))]


def list_buckets(transaction: Transaction) -> list[Bucket]:
    """All buckets."""
    return [bucket_of(row) for row in transaction.rows(ALL_BUCKETS)]
