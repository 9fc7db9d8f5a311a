"""A schedule's row, the same on every database: its columns in one order, made of a value, read into one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from jobmaster.model.schedule import (
    OccurrenceRecord,
    Rule,
    Schedule,
    ScheduleKey,
    ScheduleKind,
    ScheduleStatus,
    Trigger,
)

if TYPE_CHECKING:
    from jobmaster.stores.sql.job_rows import Row

NAMES = (
    "id", "name", "kind", "status", "paused", "error", "expression", "rule", "task", "lane", "priority", "template",
    "source", "version", "created_us", "since_us", "cursor_us", "plan_at_us", "last_at_us", "ensured_us", "ended_us",
    "current_job",
)  # fmt: skip
SCHEDULE = ", ".join(NAMES)
"""The columns of a schedule."""
OCCURRENCE = "at_us, job_id, trigger_kind"
"""The columns of an occurrence as it is remembered."""
NEW_OCCURRENCE = "schedule, at_us, job_id, trigger_kind, created_us"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Rule)
_STATUS_OF = {status.value: status for status in ScheduleStatus}
_TRIGGER_OF = {trigger.value: trigger for trigger in Trigger}


def row_of(schedule: Schedule) -> Row:
    """Values in the order of SCHEDULE."""
    return (
        schedule.key, schedule.name, schedule.kind.value, schedule.status.value, int(schedule.paused), schedule.error,
        schedule.rule.text, _encoder.encode(schedule.rule), schedule.task, schedule.lane, schedule.priority,
        schedule.template, schedule.source, schedule.version, schedule.created_us, schedule.since_us,
        schedule.cursor_us, schedule.plan_at_us, schedule.last_at_us, schedule.ensured_us, schedule.ended_us,
        schedule.current_job,
    )  # fmt: skip


def schedule_of(row: Row) -> Schedule:
    """A row of the columns SCHEDULE as a value."""
    (
        key, name, kind, status, paused, error, _, rule, task, lane, priority, template, source, version, created_us,
        since_us, cursor_us, plan_at_us, last_at_us, ensured_us, ended_us, current_job,
    ) = row  # fmt: skip
    return Schedule(
        key=ScheduleKey(key),
        name=name,
        kind=ScheduleKind(kind),
        rule=terms_of(rule),
        task=task,
        template=template,
        lane=lane,
        priority=priority,
        source=source,
        status=_STATUS_OF[status],
        paused=bool(paused),
        error=error,
        version=version,
        created_us=created_us,
        since_us=since_us,
        cursor_us=cursor_us,
        plan_at_us=plan_at_us,
        last_at_us=last_at_us,
        ensured_us=ensured_us,
        ended_us=ended_us,
        current_job=current_job,
    )


def terms_of(rule: bytes) -> Rule:
    """The column `rule` as a value."""
    return _decoder.decode(rule)


def occurrence_of(row: Row) -> OccurrenceRecord:
    """A row of the columns OCCURRENCE as a value."""
    at_us, key, trigger = row
    return OccurrenceRecord(at_us, key, _TRIGGER_OF[trigger])
