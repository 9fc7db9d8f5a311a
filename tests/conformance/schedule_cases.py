"""What the cases about schedules share: schedules, plans and occurrences with names and moments that can be told."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import msgspec

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import ClaimedJob, Envelope, NewJob, encode_envelope
from jobmaster.model.schedule import (
    Misfire,
    Occurrence,
    Overlap,
    Plan,
    Rule,
    Schedule,
    ScheduleKey,
    ScheduleKind,
    ScheduleStatus,
    Trigger,
    occurrence_key,
)
from jobmaster.ports.schedules import ScheduleChange
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of

MINUTE = 60 * SECOND
CLAIM, IDLE, AGE = 5 * SECOND, 300 * SECOND, 30 * SECOND
LOST = 150 * SECOND

EVERY_MINUTE = Rule("NaturalCron", "every minute")
EVERY_HOUR = Rule("NaturalCron", "every hour")
WHOLE = Rule(
    "Cron",
    "*/5 * * * *",
    zone="Europe/Berlin",
    start_us=NOON,
    end_us=NOON + 100 * MINUTE,
    misfire=Misfire.ALL,
    misfire_limit=7,
    misfire_grace_us=3 * SECOND,
    overlap=Overlap.QUEUE,
    jitter_us=5 * SECOND,
)
"""A rule with everything that it may have."""

ACTIVE, CANCELED, INACTIVE, COMPLETED = (
    ScheduleStatus.ACTIVE,
    ScheduleStatus.CANCELED,
    ScheduleStatus.INACTIVE,
    ScheduleStatus.COMPLETED,
)


def key_of(name: str) -> ScheduleKey:
    return ScheduleKey(uuid5(UUID(int=0), name).bytes)


def made(who: str = "report", /, **fields: Any) -> Schedule:
    """A schedule that nobody has stored yet."""
    usual: dict[str, Any] = {
        "key": key_of(who),
        "name": who,
        "kind": ScheduleKind.DYNAMIC,
        "rule": EVERY_MINUTE,
        "task": "send",
        "template": b"template",
        "lane": "mail",
        "priority": 4,
    }
    return Schedule(**{**usual, **fields})


def static(who: str = "report", /, **fields: Any) -> Schedule:
    return made(who, **{"kind": ScheduleKind.STATIC, "source": "app.py:12", **fields})


async def added(cluster: Cluster, who: str = "report", /, **fields: Any) -> Schedule:
    stored: Schedule = await cluster.store.add_schedule(made(who, **fields))
    return stored


def run(schedule: Schedule, at_us: int, **fields: Any) -> Occurrence:
    """An occurrence of a schedule with its job."""
    trigger = fields.pop("trigger", Trigger.SCHEDULE)
    key = fields.pop("key", None) or occurrence_key(schedule.key, at_us, trigger)
    usual: dict[str, Any] = {
        "task": schedule.task,
        "call": b"[]",
        "created_us": at_us,
        "scheduled_us": at_us,
        "lane": schedule.lane,
        "priority": schedule.priority,
        "trigger": trigger.value,
        "schedule": schedule.key,
        "overlap": schedule.rule.overlap.value,
    }
    envelope = Envelope(**{**usual, **fields})
    verify = schedule.rule.overlap is not Overlap.ALLOW
    return Occurrence(at_us, NewJob(key, envelope, encode_envelope(envelope), due_us=at_us, verify=verify), trigger)


def plan_of(schedule: Schedule, *moments: int, **fields: Any) -> Plan:
    """A plan of these moments, made of the schedule as it is given."""
    usual: dict[str, Any] = {
        "key": schedule.key,
        "version": schedule.version,
        "cursor_us": schedule.cursor_us,
        "occurrences": [run(schedule, at_us) for at_us in moments],
        "new_cursor_us": max(moments, default=schedule.cursor_us),
        "plan_at_us": max(moments, default=NOON) + MINUTE,
    }
    return Plan(**{**usual, **fields})


async def apply(cluster: Cluster, *plans: Plan, store: Any = None) -> list[bool]:
    applied: list[bool] = await (store or cluster.store).plan_schedules(
        list(plans), as_of_us=cluster.now_us, max_age_us=AGE
    )
    return applied


async def planned(cluster: Cluster, schedule: Schedule, *moments: int) -> Schedule:
    """The schedule after these moments were planned."""
    assert await apply(cluster, plan_of(schedule, *moments)) == [True]
    return await known(cluster, schedule)


async def kept(cluster: Cluster, *wanted: Schedule, fresh_us: int = 0) -> list[str]:
    """A worker says that its code still has them; the names of those that it is to ensure."""
    lacking = await cluster.store.keep_schedules(list(wanted), fresh_us=fresh_us, lost_us=LOST)
    names = {one.key: one.name for one in wanted}
    return [names[key] for key in lacking]


async def known(cluster: Cluster, schedule: Schedule) -> Schedule:
    found: Schedule | None = await cluster.store.get_schedule(schedule.key)
    assert found is not None, "nobody knows the schedule"
    return found


async def moments(cluster: Cluster, schedule: Schedule) -> list[int]:
    """All moments that are remembered, oldest first."""
    found = await cluster.store.schedule_occurrences(schedule.key, limit=1_000, after_us=0)
    return [record.at_us for record in found]


async def due(cluster: Cluster, *, limit: int = 100, store: Any = None) -> list[str]:
    """The names of the schedules that a planner gets now."""
    answer = await (store or cluster.store).due_schedules(limit=limit, claim_us=CLAIM, idle_us=IDLE)
    return [schedule.name for schedule in answer.schedules]


async def changed(cluster: Cluster, schedule: Schedule, **fields: Any) -> Schedule:
    """The schedule after a person changed it."""
    change = ScheduleChange(**fields)
    after: Schedule | None = await cluster.store.change_schedule(schedule.key, change, version=None)
    assert after is not None, "the change was refused"
    return after


# -- occurrences that may not overlap


async def alone(cluster: Cluster, overlap: Overlap) -> Schedule:
    """A schedule whose runs may not overlap."""
    return await added(cluster, rule=msgspec.structs.replace(EVERY_MINUTE, overlap=overlap))


async def in_memory(cluster: Cluster, bucket: Bucket, key: JobKey) -> ClaimedJob:
    """A held job that is due, claimed by the bucket's owner."""
    found = [job for job in (await cluster.claim(bucket)).jobs if job.key == key]
    assert len(found) == 1, "it was not to be claimed"
    return found[0]


async def begins(cluster: Cluster, bucket: Bucket, job: ClaimedJob, **fields: Any) -> bool:
    """Whether a claimed job may begin."""
    (verdict,) = await cluster.store.take_over(bucket.fence, [start_of(job, **fields)])
    yes: bool = verdict.yes
    return yes


async def running(cluster: Cluster, bucket: Bucket, key: JobKey) -> ClaimedJob:
    job = await in_memory(cluster, bucket, key)
    assert await begins(cluster, bucket, job)
    return job


async def ended(cluster: Cluster, bucket: Bucket, job: ClaimedJob, **fields: Any) -> None:
    (settled,) = await cluster.store.settle(bucket.fence, [outcome_of(job, **fields)])
    assert settled.done
