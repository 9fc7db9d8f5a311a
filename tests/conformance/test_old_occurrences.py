"""Moments that are over: what nobody started in time is missed, and what is old is forgotten."""

from __future__ import annotations

import asyncio

from jobmaster.model.schedule import ScheduleStatus, Trigger, occurrence_key
from jobmaster.model.states import JobStatus
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of
from tests.conformance.schedule_cases import (
    MINUTE,
    added,
    apply,
    changed,
    kept,
    known,
    made,
    moments,
    plan_of,
    planned,
    run,
    static,
)


async def test_a_planned_run_that_nobody_started_in_time_is_missed_and_no_failure(cluster: Cluster) -> None:
    schedule = await added(cluster)
    wanted = [
        run(schedule, NOON, expires_us=NOON + SECOND),
        run(schedule, NOON + MINUTE, expires_us=NOON + 2 * MINUTE),
        run(schedule, NOON + 1, expires_us=NOON + SECOND, trigger=Trigger.RUN_NOW),
    ]
    await cluster.store.add_occurrences(schedule.key, wanted)
    (plain,) = await cluster.held(expires_us=NOON + SECOND)
    cluster.later(60)
    assert await cluster.store.sweep(overdue_us=MINUTE, limit=10) == 3
    rows = [await cluster.row(one.job.key) for one in wanted]
    assert [(row.status, row.reason) for row in rows] == [
        (JobStatus.CANCELLED, "missed"),
        (JobStatus.HELD_ON_MASTER, ""),
        (JobStatus.CANCELLED, "missed"),
    ]
    assert rows[0].finished_us == cluster.now_us
    failed = await cluster.row(plain.key)
    assert (failed.status, failed.reason) == (JobStatus.FAILED, "expired")


@case("success", "purge_schedules")
async def test_retention_takes_old_occurrences_and_schedules_that_ended_long_ago(cluster: Cluster) -> None:
    living = await planned(cluster, await added(cluster), NOON, NOON + SECOND, NOON + MINUTE)
    done = await planned(cluster, await added(cluster, "done"), NOON + 2 * SECOND)
    cluster.later(3)
    await changed(cluster, done, status=ScheduleStatus.CANCELED)
    await cluster.store.ensure_schedules([static("gone"), static("kept")])
    cluster.later(10)
    await cluster.store.expire_schedules(idle_us=SECOND, limit=10)
    await changed(cluster, static("kept"), status=ScheduleStatus.CANCELED)
    cluster.later(10)
    assert await kept(cluster, static("kept")) == []
    before_us = cluster.now_us
    cluster.later(MINUTE // SECOND)
    assert await cluster.store.purge_schedules(before_us=NOON, limit=10) == 0
    assert len(await moments(cluster, living)) == 3
    assert await cluster.store.purge_schedules(before_us=before_us, limit=2) == 2
    assert await moments(cluster, living) == [NOON + MINUTE]
    assert await moments(cluster, done) == [NOON + 2 * SECOND], "no more than the limit"
    assert await cluster.store.purge_schedules(before_us=before_us, limit=2) == 1
    assert await moments(cluster, done) == []
    assert await cluster.store.get_schedule(done.key) is None
    assert await cluster.store.get_schedule(static("gone").key) is None
    assert await cluster.store.get_schedule(static("kept").key) is not None, "a worker's code has it"
    assert await cluster.store.get_schedule(living.key) is not None
    jobs = [await cluster.status(occurrence_key(living.key, at)) for at in (NOON, NOON + MINUTE)]
    assert jobs == [JobStatus.HELD_ON_MASTER] * 2, "jobs have a retention of their own"


@case("conflict", "purge_schedules")
async def test_retention_leaves_what_goes_on(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON + MINUTE)
    completed = plan_of(await added(cluster, "done"), status=ScheduleStatus.COMPLETED)
    assert await apply(cluster, completed) == [True]
    assert await cluster.store.purge_schedules(before_us=NOON, limit=10) == 0
    assert (await known(cluster, schedule)).status is ScheduleStatus.ACTIVE
    assert (await known(cluster, made("done"))).status is ScheduleStatus.COMPLETED


@case("repeat", "purge_schedules")
async def test_a_repeated_retention_finds_nothing(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON, NOON + 1)
    cluster.later(1)
    assert [await cluster.store.purge_schedules(before_us=NOON + 1, limit=10) for _ in range(2)] == [1, 0]
    assert await moments(cluster, schedule) == [NOON + 1]


async def test_the_latest_occurrence_that_has_come_stays_with_its_schedule(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON, NOON + SECOND, NOON + 100 * MINUTE)
    other = await planned(cluster, await added(cluster, "other"), NOON + SECOND)
    cluster.later(60)
    assert await cluster.store.purge_schedules(before_us=cluster.now_us, limit=10) == 1
    assert await moments(cluster, schedule) == [NOON + SECOND, NOON + 100 * MINUTE]
    await changed(cluster, other, status=ScheduleStatus.CANCELED)
    cluster.later(1)
    assert await cluster.store.purge_schedules(before_us=cluster.now_us, limit=10) == 1
    assert await moments(cluster, other) == [], "where the schedule is gone, too"


async def test_a_backfill_of_long_ago_is_remembered_from_when_it_was_made(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON)
    old = run(schedule, NOON - 1_000 * MINUTE, trigger=Trigger.BACKFILL)
    assert await cluster.store.add_occurrences(schedule.key, [old]) == [True]
    cluster.later(60)
    assert await cluster.store.purge_schedules(before_us=NOON, limit=10) == 0
    assert await cluster.store.purge_schedules(before_us=NOON + 1, limit=10) == 1
    assert await moments(cluster, schedule) == [NOON]


@case("race", "purge_schedules")
async def test_two_janitors_take_each_occurrence_once(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), *(NOON + number for number in range(20)))
    stores = [await cluster.other() for _ in range(3)]
    taken = await asyncio.gather(*(store.purge_schedules(before_us=NOON + 20, limit=15) for store in stores))
    left = await moments(cluster, schedule)
    assert sum(taken) + len(left) == 20


async def test_an_occurrence_that_began_in_time_keeps_its_retries(cluster: Cluster) -> None:
    schedule = await added(cluster)
    late = NOON + MINUTE
    await cluster.store.add_occurrences(schedule.key, [run(schedule, NOON, expires_us=late)])
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    (job,) = (await cluster.claim(bucket)).jobs
    again = outcome_of(job, JobStatus.HELD_ON_MASTER, delay_us=2 * MINUTE, failures=1)
    await cluster.store.settle(bucket.fence, [again])
    cluster.later(90)
    assert await cluster.store.sweep(overdue_us=MINUTE, limit=10) == 0
    assert await cluster.status(job.key) is JobStatus.HELD_ON_MASTER
