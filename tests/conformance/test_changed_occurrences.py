"""What a change of a schedule does with the jobs that were planned before it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobmaster.model.schedule import Overlap, Trigger, replanned_key
from jobmaster.model.states import CancelOutcome, JobStatus
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
    CANCELED,
    EVERY_HOUR,
    EVERY_MINUTE,
    MINUTE,
    added,
    apply,
    begins,
    changed,
    known,
    moments,
    plan_of,
    planned,
    run,
)


async def test_what_an_owner_has_already_is_cancelled_and_remembered(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON + 10 * SECOND, NOON + MINUTE)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    claimed = (await cluster.claim(bucket, window=15)).jobs
    assert len(claimed) == 1
    await changed(cluster, schedule, paused=True)
    assert await cluster.status(claimed[0].key) is JobStatus.CANCELLED
    assert await moments(cluster, schedule) == [NOON + 10 * SECOND]
    grant = await cluster.renew(bucket.owner or 0, held=[(claimed[0].key, claimed[0].gen)])
    assert grant.cancels == [claimed[0].key], "its owner is told"
    reply = await cluster.store.cancel(claimed[0].key)
    assert reply.outcome is CancelOutcome.REQUESTED


async def test_an_edit_loses_no_moment_that_an_owner_has_already(cluster: Cluster) -> None:
    both, old = NOON + 10 * SECOND, NOON + 11 * SECOND
    schedule = await planned(cluster, await added(cluster), both, old, NOON + MINUTE)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    claimed = {job.due_us: job.key for job in (await cluster.claim(bucket, window=15)).jobs}
    assert set(claimed) == {both, old}
    await changed(cluster, schedule, rule=EVERY_HOUR)
    assert await moments(cluster, schedule) == [both, old]
    by_hand = run(schedule, NOON + 12 * SECOND, trigger=Trigger.RUN_NOW)
    assert await cluster.store.add_occurrences(schedule.key, [by_hand]) == [True]
    assert len((await cluster.claim(bucket, window=15)).jobs) == 1
    assert await apply(cluster, plan_of(await known(cluster, schedule), both, NOON + 20 * SECOND)) == [True]
    states = [await cluster.status(key) for key in (claimed[both], claimed[old], by_hand.job.key)]
    assert states == [JobStatus.QUEUED, JobStatus.CANCELLED, JobStatus.QUEUED]
    grant = await cluster.renew(bucket.owner or 0, held=[(key, 1) for key in claimed.values()])
    assert grant.cancels == [claimed[old]]


@pytest.mark.parametrize("fields", [{"error": "broken"}, {"cursor_us": None}], ids=["parked", "later"])
async def test_what_owners_have_is_left_by_plans_that_say_nothing_of_it(
    cluster: Cluster, fields: dict[str, Any]
) -> None:
    schedule = await planned(cluster, await added(cluster), NOON + 10 * SECOND)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    (claimed,) = (await cluster.claim(bucket, window=15)).jobs
    if "error" in fields:
        schedule = await changed(cluster, schedule, task="other")
        assert await apply(cluster, plan_of(schedule, **fields)) == [True]
    else:
        assert await apply(cluster, plan_of(schedule, NOON + MINUTE)) == [True]
    assert await cluster.status(claimed.key) is JobStatus.QUEUED


@pytest.mark.parametrize("ends", [{"paused": True}, {"status": CANCELED}], ids=["pause", "cancel"])
async def test_a_pause_takes_what_had_its_moment_and_begins_later(cluster: Cluster, ends: dict[str, Any]) -> None:
    rule = msgspec.structs.replace(EVERY_MINUTE, jitter_us=10 * MINUTE)
    schedule = await added(cluster, rule=rule)
    late, soon, begun = (run(schedule, NOON + number) for number in (1, 2, 3))
    late = msgspec.structs.replace(late, job=msgspec.structs.replace(late.job, due_us=NOON + 5 * MINUTE))
    soon = msgspec.structs.replace(soon, job=msgspec.structs.replace(soon.job, due_us=NOON + 12 * SECOND))
    plan = plan_of(schedule, occurrences=[late, soon, begun], new_cursor_us=NOON + 3)
    assert await apply(cluster, plan) == [True]
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    cluster.later(1)
    assert len((await cluster.claim(bucket, window=15)).jobs) == 2
    await changed(cluster, schedule, **ends)
    rows = [await cluster.row(one.job.key) for one in (late, soon, begun)]
    assert [row.status for row in rows] == [JobStatus.CANCELLED, JobStatus.CANCELLED, JobStatus.QUEUED]
    assert [row.reason for row in rows] == ["schedule changed", "schedule changed", ""]
    assert await moments(cluster, schedule) == [NOON + 1, NOON + 2, NOON + 3]


async def test_an_edit_leaves_what_had_its_moment(cluster: Cluster) -> None:
    rule = msgspec.structs.replace(EVERY_MINUTE, jitter_us=10 * MINUTE)
    schedule = await added(cluster, rule=rule)
    late = run(schedule, NOON + 1)
    late = msgspec.structs.replace(late, job=msgspec.structs.replace(late.job, due_us=NOON + 5 * MINUTE))
    assert await apply(cluster, plan_of(schedule, occurrences=[late], new_cursor_us=NOON + 1)) == [True]
    cluster.later(1)
    await changed(cluster, schedule, rule=EVERY_HOUR)
    assert await cluster.status(late.job.key) is JobStatus.HELD_ON_MASTER


@pytest.mark.parametrize("way", ["pause", "edit"])
async def test_a_moment_that_comes_back_in_time_runs(cluster: Cluster, way: str) -> None:
    at_us = NOON + 10 * SECOND
    schedule = await planned(cluster, await added(cluster), at_us)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    (old,) = (await cluster.claim(bucket, window=15)).jobs
    if way == "pause":
        await changed(cluster, schedule, paused=True)
        back = await changed(cluster, schedule, paused=False)
    else:
        other = await changed(cluster, schedule, rule=EVERY_HOUR)
        assert await apply(cluster, plan_of(other, NOON + MINUTE)) == [True]
        back = await changed(cluster, schedule, rule=EVERY_MINUTE)
    assert (await cluster.row(old.key)).reason == "schedule changed"
    assert await apply(cluster, plan_of(back, at_us)) == [True]
    (record,) = await cluster.store.schedule_occurrences(schedule.key, limit=9)
    assert (record.at_us, record.key) == (at_us, replanned_key(old.key))
    grant = await cluster.renew(bucket.owner or 0, held=[(old.key, old.gen)])
    assert grant.cancels == [old.key], "who still has the old one is told"
    (again,) = (await cluster.claim(bucket, window=15)).jobs
    assert (again.key, again.due_us) == (record.key, at_us)
    await changed(cluster, schedule, paused=True)
    back = await changed(cluster, schedule, paused=False)
    assert await apply(cluster, plan_of(back, at_us)) == [True]
    assert await cluster.status(replanned_key(again.key)) is JobStatus.HELD_ON_MASTER


async def test_what_a_person_cancelled_is_not_planned_again(cluster: Cluster) -> None:
    by_person, late = NOON + 10 * SECOND, NOON + 8 * SECOND
    schedule = await planned(cluster, await added(cluster), late, by_person)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    claimed = {job.due_us: job.key for job in (await cluster.claim(bucket, window=15)).jobs}
    await cluster.store.cancel(claimed[by_person])
    await changed(cluster, schedule, paused=True)
    cluster.later(6)
    back = await changed(cluster, schedule, paused=False)
    cluster.later(3)
    assert await apply(cluster, plan_of(back, late, by_person)) == [True]
    assert await moments(cluster, schedule) == [late, by_person]
    for at_us in (late, by_person):
        assert await cluster.status(claimed[at_us]) is JobStatus.CANCELLED
    assert await cluster.status(replanned_key(claimed[by_person])) is None
    assert await cluster.status(replanned_key(claimed[late])) is JobStatus.HELD_ON_MASTER, "its planner was slow"


@pytest.mark.parametrize("guard", ["at most once", "one after the other"])
async def test_an_owner_that_is_cut_off_does_not_run_a_moment_that_is_planned_again_where_its_start_is_guarded(
    cluster: Cluster, guard: str
) -> None:
    once = guard == "at most once"
    overlap = Overlap.ALLOW if once else Overlap.QUEUE
    at_us = NOON + 10 * SECOND
    before = await added(cluster, rule=msgspec.structs.replace(EVERY_MINUTE, overlap=overlap))
    assert await apply(cluster, plan_of(before, occurrences=[run(before, at_us, at_most_once=once)])) == [True]
    deaf = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    (old,) = (await cluster.claim(deaf, window=15)).jobs
    await changed(cluster, before, paused=True)
    resumed = await changed(cluster, before, paused=False)
    assert await apply(cluster, plan_of(resumed, occurrences=[run(resumed, at_us, at_most_once=once)])) == [True]
    other = await cluster.bucket(await cluster.worker("other", lanes=("mail",)), lane="mail", priority=4)
    (again,) = (await cluster.claim(other, window=15)).jobs
    cluster.later(10)
    assert not await begins(cluster, deaf, old)
    assert await begins(cluster, other, again)
