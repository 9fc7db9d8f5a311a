"""Questions by key: what clients wait for, and single jobs as people see them. Lists and filters: ../queries.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import AttemptRecord, Envelope, JobRecord, JobState, unreadable_envelope
from jobmaster.model.states import JobStatus
from jobmaster.stores.sql.sqlite.buckets import BUCKET, bucket_of
from jobmaster.stores.sql.sqlite.recover import readable
from jobmaster.stores.sql.sqlite.rows import STATUS_OF, decode_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

STATES = "SELECT id, status, result, error, reason, attempts FROM jm_job WHERE id IN ({keys})"
WAITING = "SELECT job_id FROM jm_message WHERE job_id IN ({keys})"

RECORD = (
    "id, status, task, lane, priority, created_us, scheduled_us, due_us, payload, custom_id, gen, bucket, worker, "
    "started_us, finished_us, attempts, failures, recoveries, result, error, reason"
)
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
    known = {row[0]: _state(row) for row in transaction.by_keys(STATES, keys)}
    absent = [key for key in keys if key not in known]
    if absent and transaction.standalone:
        for (key,) in transaction.by_keys(WAITING, absent):
            known[key] = JobState(key, JobStatus.SAVE_PENDING)
    return [known.get(key) for key in keys]


def _state(row: Row) -> JobState:
    key, status, result, error, reason, attempts = row
    return JobState(key, STATUS_OF[status], result, decode_error(error), reason, attempts)


def get_job(transaction: Transaction, key: JobKey) -> JobRecord | None:
    """One job with its envelope."""
    row = transaction.row(ONE, (key,))
    if row is not None:
        return record_of(row, whole=True)
    waiting = transaction.row(MESSAGE, (key,)) if transaction.standalone else None
    return None if waiting is None else waiting_record(waiting, whole=True)


def record_of(row: Row, *, whole: bool = False) -> JobRecord:
    """A row of the columns RECORD as people see it; `whole` with its envelope."""
    (
        key, status, task, lane, priority, created_us, scheduled_us, due_us, payload, custom_id, gen, bucket, worker,
        started_us,
        finished_us, attempts, failures, recoveries, result, error, reason,
    ) = row  # fmt: skip
    return JobRecord(
        key=key,
        status=STATUS_OF[status],
        task=task,
        lane=lane,
        priority=priority,
        created_us=created_us,
        scheduled_us=scheduled_us,
        due_us=due_us,
        envelope=readable_or_unknown(payload, due_us) if whole else None,
        custom_id=custom_id,
        gen=gen,
        bucket=bucket,
        worker=worker,
        started_us=started_us,
        finished_us=finished_us,
        attempts=attempts,
        failures=failures,
        recoveries=recoveries,
        result=result,
        error=decode_error(error),
        reason=reason,
    )


def waiting_record(row: Row, *, whole: bool = False) -> JobRecord:
    """A message without a row, as people see it."""
    key, gen, bucket, due_us, payload = row
    envelope = readable_or_unknown(payload, due_us)
    return JobRecord(
        key=key,
        status=JobStatus.SAVE_PENDING,
        task=envelope.task,
        lane=envelope.lane,
        priority=envelope.priority,
        created_us=envelope.created_us,
        scheduled_us=envelope.scheduled_us,
        due_us=due_us,
        envelope=envelope if whole else None,
        custom_id=envelope.custom_id,
        gen=gen,
        bucket=bucket,
        in_master=False,
    )


def readable_or_unknown(payload: bytes, due_us: int) -> Envelope:
    """The envelope, or what stands for one that cannot be read."""
    return readable(payload) or unreadable_envelope(due_us)


def job_attempts(transaction: Transaction, key: JobKey) -> list[AttemptRecord]:
    """The recorded attempts, first to last."""
    return [attempt_of(row) for row in transaction.rows(ATTEMPTS, (key,))]


def attempt_of(row: Row) -> AttemptRecord:
    """A row of ATTEMPTS as a value."""
    key, attempt, status, worker, bucket, started_us, finished_us, error, reason = row
    return AttemptRecord(
        key=key,
        attempt=attempt,
        status=STATUS_OF[status],
        worker=worker,
        bucket=bucket,
        started_us=started_us,
        finished_us=finished_us,
        error=decode_error(error),
        reason=reason,
    )


def list_buckets(transaction: Transaction) -> list[Bucket]:
    """All buckets."""
    return [bucket_of(row) for row in transaction.rows(ALL_BUCKETS)]
