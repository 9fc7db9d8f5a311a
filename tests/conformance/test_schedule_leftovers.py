"""What stays of a schedule's series: the occurrence it goes on from, and what owners have when its end is moved."""

from __future__ import annotations

import msgspec

from jobmaster.model.schedule import Trigger, occurrence_key
from jobmaster.model.states import JobStatus
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
    COMPLETED,
    MINUTE,
    added,
    apply,
    changed,
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
