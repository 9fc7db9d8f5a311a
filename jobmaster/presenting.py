"""Records of the stores as the values that people get: names for numbers, aware moments, "default" for no lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from jobmaster.errors import SerializationError
from jobmaster.model.ids import JobKey, key_text
from jobmaster.model.job import decode_envelope
from jobmaster.model.schedule import ScheduleKind, Trigger
from jobmaster.model.states import Priority
from jobmaster.options import as_moment
from jobmaster.views import (
    AttemptInfo,
    BucketInfo,
    JobError,
    JobInfo,
    ScheduleInfo,
    ScheduleState,
    UpcomingRun,
    WorkerInfo,
)

if TYPE_CHECKING:
    from jobmaster.model.bucket import Bucket
    from jobmaster.model.job import AttemptRecord, Envelope, ErrorInfo, JobRecord
    from jobmaster.model.schedule import Schedule
    from jobmaster.model.worker import WorkerRecord
    from jobmaster.schedules.expression import Expression
    from jobmaster.wire.codec import Codec


def job_info(record: JobRecord, names: Mapping[int, str], **payload: Any) -> JobInfo:
    """A job. `names`: workers by id; `payload`: the fields that the codec has read."""
    envelope = record.envelope
    expires_us = envelope.expires_us if envelope is not None else None
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
        error=job_error(record.error),
        in_master=record.in_master,
        schedule=None if envelope is None else schedule_id(envelope.schedule),
        trigger=None if envelope is None else trigger_word(envelope.trigger),
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
        error=job_error(record.error),
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


def schedule_info(
    schedule: Schedule,
    *,
    rule: Expression | None,
    cluster_zone: str,
    after: datetime | None,
    last_us: int | None,
    codec: Codec | None,
) -> ScheduleInfo:
    """A schedule.

    Args:
        schedule: as the store has it.
        rule: its rule, computed; None: this process cannot.
        cluster_zone: of rules that name none.
        after: what its next occurrence comes after; None: none comes at present.
        last_us: its latest one.
        codec: reads its arguments; None: they are not shown.
    """
    terms, envelope = schedule.rule, decode_envelope(schedule.template)
    zone = None if rule is None else rule.zone
    return ScheduleInfo(
        id=schedule_id(schedule.key) or "",
        name=schedule.name,
        state=_state(schedule),
        kind="static" if schedule.kind is ScheduleKind.STATIC else "dynamic",
        task=schedule.task,
        type_id=terms.type_id,
        expression=terms.text,
        explanation="" if rule is None else rule.explain(),
        zone=zone.key if zone is not None else terms.zone or cluster_zone,
        lane=schedule.lane or "default",
        priority=Priority(schedule.priority),
        next_run=None if rule is None or after is None else _next(schedule, rule, after),
        last_run=_moment(last_us),
        version=schedule.version,
        created_at=as_moment(schedule.created_us),
        ended_at=_moment(schedule.ended_us),
        start_after=_moment(terms.start_us),
        end_before=_moment(terms.end_us),
        misfire=terms.misfire.value,
        misfire_limit=terms.misfire_limit,
        misfire_grace=timedelta(microseconds=terms.misfire_grace_us),
        overlap=terms.overlap.name.lower(),
        jitter=timedelta(microseconds=terms.jitter_us),
        max_retries=envelope.max_retries,
        timeout=None if envelope.timeout is None else timedelta(seconds=envelope.timeout),
        paused=schedule.paused,
        error=schedule.error,
        source=schedule.source,
        **({} if codec is None else _arguments(envelope, codec)),
    )


def upcoming_runs(schedule: Schedule, rule: Expression, after: datetime, count: int) -> Sequence[UpcomingRun]:
    """The next occurrences after a moment, in the rule's zone, with what a change of clocks does to them."""
    from jobmaster.schedules import next_runs

    end = _moment(schedule.rule.end_us)
    runs = (run for run in next_runs(rule, after, count) if end is None or run.moment.astimezone(UTC) <= end)
    return [UpcomingRun(at=run.moment, note=run.note) for run in runs]


def _next(schedule: Schedule, rule: Expression, after: datetime) -> datetime | None:
    try:
        moment = rule.next_after(after)
    except Exception:  # noqa: BLE001 - a custom rule may raise anything; whoever plans it tells why
        return None
    moment = None if moment is None else moment.astimezone(UTC)
    end = _moment(schedule.rule.end_us)
    return None if moment is None or (end is not None and moment > end) else moment


def _state(schedule: Schedule) -> ScheduleState:
    if schedule.status.is_final:
        return ScheduleState[schedule.status.name]
    if schedule.error:
        return ScheduleState.BROKEN
    return ScheduleState.PAUSED if schedule.paused else ScheduleState.ACTIVE


def _arguments(envelope: Envelope, codec: Codec) -> dict[str, Any]:
    """Arguments and metadata as plain data; what cannot be read is said, not raised."""
    shown: dict[str, Any] = {"metadata": envelope.metadata}
    try:
        if envelope.is_data:
            shown["args"], shown["kwargs"] = (), codec.decode_value(envelope.call, what="msg_data")
        else:
            shown["args"], shown["kwargs"] = codec.decode_call(envelope.call)
    except SerializationError as error:
        shown["payload_error"] = str(error)
    return shown


def schedule_id(key: bytes | None) -> str | None:
    """The id of a schedule, as people write it."""
    return None if key is None else key_text(JobKey(key))


def trigger_word(trigger: int) -> str:
    """What made a job: "call", "schedule", "run now", "backfill"."""
    known = trigger in Trigger._value2member_map_
    return (Trigger(trigger) if known else Trigger.CALL).name.lower().replace("_", " ")


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else as_moment(micros)


def job_error(error: ErrorInfo | None) -> JobError | None:
    """The exception that ended an attempt."""
    return None if error is None else JobError(type=error.type, message=error.message, traceback=error.traceback)


def _name(worker: int | None, names: Mapping[int, str]) -> str | None:
    return None if worker is None else names.get(worker, f"worker {worker}")
