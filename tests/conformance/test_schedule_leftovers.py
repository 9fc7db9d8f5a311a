"""What stays of a schedule's past: what its series goes on from, what nobody started in time, what is run again."""

from __future__ import annotations

import msgspec

from jobmaster.model.job import decode_envelope
from jobmaster.model.schedule import Schedule, Trigger, occurrence_key, replanned_key
from jobmaster.model.states import JobStatus
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
    COMPLETED,
    MINUTE,
    added,
    apply,
    changed,
    known,
    moments,
    plan_of,
    planned,
    run,
)


async def test_a_run_by_hand_does_not_take_the_place_that_a_series_goes_on_from(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON + SECOND, NOON + 2 * SECOND)
    cluster.later(10)
    for by_hand in (NOON + 3 * SECOND, NOON + 4 * SECOND):
        one = run(schedule, by_hand, trigger=Trigger.RUN_NOW)
        assert await cluster.store.add_occurrences(schedule.key, [one]) == [True]
    cluster.later(60)
    assert await cluster.store.purge_schedules(before_us=cluster.now_us, limit=10) == 2
    assert await moments(cluster, schedule) == [NOON + 2 * SECOND, NOON + 4 * SECOND]
    schedule = await planned(cluster, schedule, cluster.now_us + MINUTE)
    edited = await changed(cluster, schedule, priority=5)
    assert edited.cursor_us == NOON + 2 * SECOND, "else the series begins anew, and what ran long ago runs again"


async def test_an_end_that_is_moved_takes_what_an_owner_has_beyond_it(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON + SECOND)
    cluster.later(2)
    stays, goes = NOON + 6 * SECOND, NOON + 10 * SECOND
    schedule = await planned(cluster, schedule, stays, goes)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    assert len((await cluster.claim(bucket, window=15)).jobs) == 3
    sooner = msgspec.structs.replace(schedule.rule, end_us=NOON + 8 * SECOND)
    edited = await changed(cluster, schedule, rule=sooner)
    assert edited.cursor_us == NOON + SECOND, "its series goes on"
    assert await apply(cluster, plan_of(edited, stays, status=COMPLETED, plan_at_us=None)) == [True]
    keys = [occurrence_key(schedule.key, at) for at in (stays, goes)]
    assert [await cluster.status(key) for key in keys] == [JobStatus.QUEUED, JobStatus.CANCELLED]


async def missed(cluster: Cluster, *moments_us: int) -> Schedule:
    """A schedule whose planned runs nobody started in time."""
    schedule = await added(cluster)
    planned_runs = [run(schedule, at, expires_us=at + SECOND) for at in moments_us]
    assert await apply(cluster, plan_of(schedule, *moments_us, occurrences=planned_runs)) == [True]
    cluster.later(MINUTE // SECOND)
    assert await cluster.store.sweep(overdue_us=SECOND, limit=100) == len(moments_us)
    return await known(cluster, schedule)


async def test_a_backfill_makes_up_for_what_was_planned_and_missed(cluster: Cluster) -> None:
    schedule = await missed(cluster, NOON, NOON + SECOND)
    ahead = cluster.now_us + MINUTE
    schedule = await planned(cluster, schedule, ahead)
    wanted = [run(schedule, at, trigger=Trigger.BACKFILL) for at in (NOON, NOON + SECOND, NOON + 2 * SECOND)]
    regular = [run(schedule, NOON), run(schedule, ahead, trigger=Trigger.BACKFILL)]
    assert await cluster.store.add_occurrences(schedule.key, regular) == [False, False]
    assert await cluster.store.add_occurrences(schedule.key, wanted) == [True] * 3
    assert await cluster.store.add_occurrences(schedule.key, wanted) == [False] * 3
    records = await cluster.store.schedule_occurrences(schedule.key, limit=3, after_us=0)
    assert [record.trigger for record in records] == [Trigger.BACKFILL] * 3
    assert [record.key for record in records[:2]] == [replanned_key(one.job.key) for one in wanted[:2]]
    rows = [await cluster.row(record.key) for record in records]
    assert [(row.status, row.due_us) for row in rows] == [
        (JobStatus.HELD_ON_MASTER, at) for at in (NOON, NOON + SECOND, NOON + 2 * SECOND)
    ]
    edited = await changed(cluster, schedule, priority=5)
    assert edited.cursor_us == NOON + 2 * SECOND, "they are moments of its series"


async def test_a_person_repeats_what_has_expired(cluster: Cluster) -> None:
    schedule = await missed(cluster, NOON)
    key = occurrence_key(schedule.key, NOON)
    assert await cluster.store.requeue(key)
    assert await cluster.store.sweep(overdue_us=SECOND, limit=100) == 0
    row = await cluster.row(key)
    assert (row.status, row.envelope.expires_us) == (JobStatus.HELD_ON_MASTER, None)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    (job,) = (await cluster.claim(bucket)).jobs
    assert decode_envelope(job.payload).expires_us is None


async def test_a_run_that_a_person_put_off_is_not_missed(cluster: Cluster) -> None:
    schedule = await added(cluster)
    at = [NOON + number * SECOND for number in range(3)]
    runs = [run(schedule, moment, expires_us=moment + MINUTE) for moment in at]
    await cluster.store.add_occurrences(schedule.key, runs)
    (called,) = await cluster.held(expires_us=NOON + MINUTE)
    for job, later in ((runs[0].job, 60), (runs[1].job, 0), (called, 60)):
        assert await cluster.store.reschedule(job.key, NOON + later * MINUTE)
    cluster.later(90)
    assert await cluster.store.sweep(overdue_us=MINUTE, limit=10) == 3
    rows = [await cluster.row(job.key) for job in (*(one.job for one in runs), called)]
    assert [(row.status, row.reason) for row in rows] == [
        (JobStatus.HELD_ON_MASTER, ""),
        (JobStatus.CANCELLED, "missed"),
        (JobStatus.CANCELLED, "missed"),
        (JobStatus.FAILED, "expired"),
    ]


async def test_an_expiry_that_is_to_come_counts_when_a_person_repeats_a_job(cluster: Cluster) -> None:
    schedule = await added(cluster)
    later_us = NOON + 60 * MINUTE
    await cluster.store.add_occurrences(schedule.key, [run(schedule, NOON, expires_us=later_us)])
    key = occurrence_key(schedule.key, NOON)
    for due_us, expires_us in ((None, later_us), (later_us, None)):
        await cluster.store.cancel(key)
        assert await cluster.store.requeue(key, due_us=due_us)
        assert (await cluster.row(key)).envelope.expires_us == expires_us


async def test_a_moment_that_came_back_and_is_planned_once_more_runs(cluster: Cluster) -> None:
    """A pause took it from its owner, a plan made another job for it, and an edit drops that one before it begins."""
    at = NOON + 10 * SECOND
    schedule = await planned(cluster, await added(cluster), at)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    assert len((await cluster.claim(bucket, window=15)).jobs) == 1
    await changed(cluster, schedule, paused=True)
    schedule = await planned(cluster, await changed(cluster, schedule, paused=False), at)
    schedule = await changed(cluster, schedule, lane="mail", task="other")
    assert await moments(cluster, schedule) == [at], "it is remembered"
    schedule = await planned(cluster, schedule, at)
    (record,) = await cluster.store.schedule_occurrences(schedule.key, limit=2, after_us=0)
    assert record.key == replanned_key(replanned_key(occurrence_key(schedule.key, at)))
    (again,) = (await cluster.claim(bucket, window=15)).jobs
    assert (again.key, decode_envelope(again.payload).task) == (record.key, "other")


async def test_what_was_dropped_is_no_moment_of_the_series_that_began_anew(cluster: Cluster) -> None:
    old, new = NOON + 10 * SECOND, NOON + 5 * SECOND
    schedule = await planned(cluster, await added(cluster), old)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    assert len((await cluster.claim(bucket, window=15)).jobs) == 1
    await changed(cluster, schedule, paused=True)
    schedule = await planned(cluster, await changed(cluster, schedule, paused=False), new, new + MINUTE)
    cluster.later(20)
    edited = await changed(cluster, schedule, priority=5)
    assert edited.cursor_us == new
