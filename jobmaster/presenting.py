"""Records of the stores as the values that people get: names for numbers, aware moments, "default" for no lane."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from jobmaster.model.ids import key_text
from jobmaster.model.states import Priority
from jobmaster.options import as_moment
from jobmaster.views import AttemptInfo, BucketInfo, JobError, JobInfo, WorkerInfo

if TYPE_CHECKING:
    from jobmaster.model.bucket import Bucket
    from jobmaster.model.job import AttemptRecord, ErrorInfo, JobRecord
    from jobmaster.model.worker import WorkerRecord


def job_info(record: JobRecord, names: Mapping[int, str], **payload: Any) -> JobInfo:
    """A job. `names`: workers by id; `payload`: the fields that the codec has read."""
    expires_us = record.envelope.expires_us if record.envelope is not None else None
    return JobInfo(
        id=record.custom_id or key_text(record.key),
        status=record.status,
        task=record.task,
        lane=record.lane or "default",
        priority=Priority(record.priority),
        created_at=as_moment(record.created_us),
        scheduled_at=as_moment(record.scheduled_us),
        due_at=as_moment(record.due_us),
        started_at=_moment(record.started_us),
        finished_at=_moment(record.finished_us),
        expires_at=_moment(expires_us),
        attempts=record.attempts,
        failures=record.failures,
        recoveries=record.recoveries,
        worker=_name(record.worker, names),
        bucket=record.bucket,
        reason=record.reason,
        error=_error(record.error),
        in_master=record.in_master,
        **payload,
    )


def attempt_info(record: AttemptRecord, workers: Mapping[int, WorkerRecord]) -> AttemptInfo:
    """One execution of a job. `workers`: those that are known, by id."""
    worker = None if record.worker is None else workers.get(record.worker)
    return AttemptInfo(
        attempt=record.attempt,
        status=record.status,
        worker=_name(record.worker, {} if worker is None else {worker.id: worker.name}),
        started_at=_moment(record.started_us),
        finished_at=_moment(record.finished_us),
        error=_error(record.error),
        reason=record.reason,
        bucket=record.bucket,
        host=None if worker is None else worker.host,
        pid=None if worker is None else worker.pid,
        lease_until=None if worker is None else as_moment(worker.lease_until_us),
    )


def worker_info(record: WorkerRecord) -> WorkerInfo:
    """A worker."""
    return WorkerInfo(
        id=record.id,
        name=record.name,
        status=record.status,
        mode=record.mode,
        agent=record.agent,
        lanes=tuple(lane or "default" for lane in record.lanes),
        host=record.host,
        pid=record.pid,
        slots=record.slots,
        version=record.version,
        started_at=as_moment(record.started_us),
        renewed_at=as_moment(record.renewed_us),
        lease_until=as_moment(record.lease_until_us),
        stats=msgspec.json.decode(record.stats or b"{}"),
    )


def bucket_info(bucket: Bucket, names: Mapping[int, str]) -> BucketInfo:
    """A bucket."""
    return BucketInfo(
        id=bucket.id,
        agent=bucket.agent,
        lane=bucket.lane or "default",
        priority=Priority(bucket.priority),
        status=bucket.status,
        epoch=bucket.epoch,
        owner=_name(bucket.owner, names),
        depth=bucket.depth,
    )


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else as_moment(micros)


def _error(error: ErrorInfo | None) -> JobError | None:
    return None if error is None else JobError(type=error.type, message=error.message, traceback=error.traceback)


def _name(worker: int | None, names: Mapping[int, str]) -> str | None:
    return None if worker is None else names.get(worker, f"worker {worker}")
