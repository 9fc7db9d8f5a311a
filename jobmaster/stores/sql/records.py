"""Rows of every SQL store as the values that cross the ports: which columns, in which order, and their readers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from jobmaster.model.bucket import Bucket
from jobmaster.model.job import (
    AttemptRecord,
    Envelope,
    JobRecord,
    JobState,
    decode_envelope,
    unreadable_envelope,
)
from jobmaster.model.states import BucketStatus, JobStatus, WorkerMode
from jobmaster.model.worker import Predecessor, WorkerRecord, WorkerStatus
from jobmaster.stores.sql.job_rows import STATUS_OF, decode_error

if TYPE_CHECKING:
    from jobmaster.stores.sql.job_rows import Row

BUCKET = "id, agent, lane, priority, epoch, status, owner, adopted_us, depth, clean"
JOB_STATE = "id, status, result, error, reason, attempts"
RECORD = (
    "id, status, task, lane, priority, created_us, scheduled_us, due_us, payload, custom_id, gen, bucket, worker, "
    "started_us, finished_us, attempts, failures, recoveries, result, error, reason"
)
WAITING = "job_id, gen, bucket, due_us, payload"
ATTEMPT = "job_id, attempt, status, worker, bucket, started_us, finished_us, error, reason"
WORKER_RECORD = (
    "id, name, boot, agent, lanes, mode, host, pid, slots, version, schema_version, started_us, renewed_us, "
    "lease_until_us, ended, stopping, stats"
)

BOOT = "id, boot, host, pid, renewed_us, lease_until_us, ended"


def bucket_of(row: Row) -> Bucket:
    """A row of the columns BUCKET as a value."""
    number, agent, lane, priority, epoch, status, owner, adopted_us, depth, clean = row
    return Bucket(
        id=number,
        agent=agent,
        lane=lane,
        priority=priority,
        epoch=epoch,
        status=BucketStatus(status),
        owner=owner,
        adopted_us=adopted_us,
        depth=depth,
        clean=bool(clean),
    )


def state_of(row: Row) -> JobState:
    """A row of the columns JOB_STATE as a waiting client gets it."""
    key, status, result, error, reason, attempts = row
    return JobState(key, STATUS_OF[status], result, decode_error(error), reason, attempts)


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


def predecessor_of(row: Row, now_us: int) -> Predecessor | None:
    """A row of the columns BOOT as what a newer boot replaces; None where its lease is over at `now_us`."""
    worker, _, host, pid, renewed_us, until_us, ended = row
    return None if ended or until_us <= now_us else Predecessor(worker, host, pid, renewed_us)


def worker_of(row: Row, now_us: int) -> WorkerRecord:
    """A row of the columns WORKER_RECORD as people see it; dead where its lease is over at `now_us`."""
    (
        number,
        name,
        boot,
        agent,
        lanes,
        mode,
        host,
        pid,
        slots,
        version,
        schema_version,
        started,
        renewed,
        until,
        ended,
        stopping,
        stats,
    ) = row
    living = WorkerStatus.STOPPING if stopping else WorkerStatus.ACTIVE
    return WorkerRecord(
        id=number,
        name=name,
        boot=boot,
        agent=agent,
        lanes=tuple(json.loads(lanes)),
        mode=WorkerMode(mode),
        status=WorkerStatus.DEAD if ended or until <= now_us else living,
        host=host,
        pid=pid,
        slots=slots,
        version=version,
        schema_version=schema_version,
        started_us=started,
        renewed_us=renewed,
        lease_until_us=until,
        stats=stats if isinstance(stats, bytes) else stats.encode(),
    )


def readable_or_unknown(payload: bytes, due_us: int) -> Envelope:
    """The envelope, or what stands for one that cannot be read."""
    return readable(payload) or unreadable_envelope(due_us)


def readable(payload: bytes) -> Envelope | None:
    """The envelope in a payload, or None: it is somebody else's, or damaged."""
    try:
        return decode_envelope(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
