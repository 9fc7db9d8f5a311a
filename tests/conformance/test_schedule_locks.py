"""Transactions about schedules that wait for each other: a commit is held open while the transaction has its row locks.

SQLite has one writer at a time, and no such tests.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from jobmaster.model.ids import JobKey
from jobmaster.model.schedule import Overlap, Schedule, ScheduleStatus, Trigger, occurrence_key
from jobmaster.model.states import JobStatus
from tests.conformance.adapters import with_locks
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of
from tests.conformance.conftest import made
from tests.conformance.schedule_cases import (
    EVERY_HOUR,
    EVERY_MINUTE,
    MINUTE,
    added,
    alone,
    apply,
    changed,
    due,
    in_memory,
    known,
    moments,
    plan_of,
    planned,
    run,
    running,
)
from tests.conformance.test_row_locks import _begun


@pytest.fixture(params=with_locks())
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    return made(request, tmp_path)


async def test_an_edit_waits_for_a_plan_that_is_under_way_and_drops_it(cluster: Cluster) -> None:
    schedule = await added(cluster)
    planning = await _begun(cluster, apply(cluster, plan_of(schedule, NOON + MINUTE)))
    editing = asyncio.create_task(changed(cluster, schedule, rule=EVERY_HOUR))
    await cluster.commits.turn()
    assert not editing.done()
    await cluster.commits.let_go()
    assert await planning == [True]
    after = await editing
    assert await known(cluster, schedule) == after
    assert (after.cursor_us, after.last_at_us, after.version) == (None, NOON + MINUTE, 2)
    assert await moments(cluster, schedule) == []
    assert await cluster.status(occurrence_key(schedule.key, NOON + MINUTE)) is None


async def test_a_plan_that_waits_for_an_edit_is_refused(cluster: Cluster) -> None:
    schedule = await added(cluster)
    editing = await _begun(cluster, changed(cluster, schedule, rule=EVERY_HOUR))
    planning = asyncio.create_task(apply(cluster, plan_of(schedule, NOON + MINUTE)))
    await cluster.commits.turn()
    assert not planning.done()
    await cluster.commits.let_go()
    after = await editing
    assert await planning == [False]
    assert await known(cluster, schedule) == after
    assert await moments(cluster, schedule) == []


async def test_a_run_now_that_is_repeated_while_the_first_is_under_way_is_one_run(cluster: Cluster) -> None:
    schedule = await added(cluster)
    key = JobKey(b"the-run-by-hand!")
    one, again = ([run(schedule, NOON + number, trigger=Trigger.RUN_NOW, key=key)] for number in range(2))
    first = await _begun(cluster, cluster.store.add_occurrences(schedule.key, one))
    second = asyncio.create_task(cluster.store.add_occurrences(schedule.key, again))
    await cluster.commits.turn()
    assert not second.done()
    await cluster.commits.let_go()
    assert [await first, await second] == [[True], [False]]
    assert await moments(cluster, schedule) == [NOON]


async def test_of_two_plans_at_once_the_second_changes_nothing(cluster: Cluster) -> None:
    schedule = await added(cluster)
    first = await _begun(cluster, apply(cluster, plan_of(schedule, NOON + MINUTE)))
    second = asyncio.create_task(apply(cluster, plan_of(schedule, NOON + SECOND)))
    await cluster.commits.turn()
    await cluster.commits.let_go()
    assert [await first, await second] == [[True], [False]]
    assert await moments(cluster, schedule) == [NOON + MINUTE]


async def test_how_old_a_plan_is_is_judged_when_its_turn_has_come(cluster: Cluster) -> None:
    schedule = await added(cluster)
    other = await added(cluster, "other")
    first = await _begun(cluster, changed(cluster, schedule, name="renamed"))
    plans = [plan_of(schedule, NOON + MINUTE, version=2), plan_of(other, NOON + MINUTE)]
    second = asyncio.create_task(apply(cluster, *plans))
    await cluster.commits.turn()
    cluster.later(31)
    await cluster.commits.let_go()
    await first
    assert await second == [False, False], "it waited too long"


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
async def test_two_owners_cannot_both_have_the_turn(cluster: Cluster, overlap: Overlap) -> None:
    schedule = await planned(cluster, await alone(cluster, overlap), NOON, NOON + 1)
    one, two = [
        await cluster.bucket(await cluster.worker(name, lanes=("mail",)), lane="mail", priority=4) for name in "ab"
    ]
    a = await in_memory(cluster, one, occurrence_key(schedule.key, NOON))
    cluster.later(1)
    b = await in_memory(cluster, two, occurrence_key(schedule.key, NOON + 1))
    first = await _begun(cluster, cluster.store.take_over(one.fence, [start_of(a)]))
    second = asyncio.create_task(cluster.store.take_over(two.fence, [start_of(b)]))
    await cluster.commits.turn()
    await cluster.commits.let_go()
    assert [(await first)[0].yes, (await second)[0].yes] == [True, False]
    assert (await known(cluster, schedule)).current_job == a.key
    assert (await cluster.row(b.key)).reason == "overlap"


async def test_a_run_that_ends_while_another_is_told_to_wait_lets_that_go(cluster: Cluster) -> None:
    schedule = await planned(cluster, await alone(cluster, Overlap.QUEUE), NOON, NOON + 1)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    first = await running(cluster, bucket, occurrence_key(schedule.key, NOON))
    cluster.later(1)
    second = await in_memory(cluster, bucket, occurrence_key(schedule.key, NOON + 1))
    starting = await _begun(cluster, cluster.store.take_over(bucket.fence, [start_of(second)]))

    async def ends() -> bool:
        await cluster.store.settle(bucket.fence, [outcome_of(first)])
        released: bool = await cluster.store.release_occurrence(schedule.key, first.key)
        return released

    ending = asyncio.create_task(ends())
    await cluster.commits.turn()
    await cluster.commits.let_go()
    yes = (await starting)[0].yes
    assert await ending is not yes, "either it began, or it was told to wait and is let go"
    row = await cluster.row(second.key)
    assert row.status is JobStatus.PROCESSING if yes else row.due_us <= cluster.now_us


async def test_a_start_waits_for_a_plan_or_an_end_of_its_schedule(cluster: Cluster) -> None:
    schedule = await planned(cluster, await alone(cluster, Overlap.QUEUE), NOON, NOON + 1)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    cluster.later(1)
    jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    first, second = (jobs[occurrence_key(schedule.key, NOON + number)] for number in (0, 1))
    for job, beside in ((first, apply(cluster, plan_of(schedule, NOON + MINUTE))), (second, ending(cluster, schedule))):
        holding = await _begun(cluster, beside)
        starting = asyncio.create_task(cluster.store.take_over(bucket.fence, [start_of(job)]))
        await cluster.commits.turn()
        assert not starting.done()
        await cluster.commits.let_go()
        assert (await starting)[0].yes is (job is first)
        await holding
    assert (await cluster.row(second.key)).reason == "overlap"


async def ending(cluster: Cluster, schedule: Schedule) -> None:
    await changed(cluster, schedule, status=ScheduleStatus.CANCELED)


async def test_verbs_about_the_same_runs_do_not_wait_for_each_other_in_a_circle(cluster: Cluster) -> None:
    """Two schedules, two owners with runs of both in one batch, and whoever else holds their rows."""
    rules = [await alone(cluster, Overlap.CANCEL_PREVIOUS), await queue(cluster)]
    moments_of = [NOON + number for number in range(6)]
    for index, schedule in enumerate(rules):
        rules[index] = await planned(cluster, schedule, *moments_of)
    worker = await cluster.worker(lanes=("mail",))
    buckets = [await cluster.bucket(worker, lane="mail", priority=4) for _ in range(2)]
    cluster.later(1)
    found = (await cluster.claim(buckets[0])).jobs
    firsts = [job for job in found if job.key in {occurrence_key(one.key, NOON) for one in rules}]
    begun = await cluster.store.take_over(buckets[0].fence, [start_of(job) for job in firsts])
    assert [verdict.yes for verdict in begun] == [True, True]
    rest = [start_of(job) for job in found if job not in firsts]
    stores = [await cluster.other() for _ in range(6)]
    async with asyncio.timeout(20):
        await asyncio.gather(
            stores[0].take_over(buckets[0].fence, rest[: len(rest) // 2]),
            stores[1].take_over(buckets[0].fence, list(reversed(rest[len(rest) // 2 :]))),
            stores[2].settle(buckets[0].fence, [outcome_of(job) for job in reversed(firsts)]),
            apply(cluster, *(plan_of(one, NOON + MINUTE) for one in reversed(rules)), store=stores[3]),
            *(stores[4].release_occurrence(schedule.key, job.key) for schedule in rules for job in firsts),
            *(stores[5].cancel(start.key) for start in rest[:2]),
            *(changed(cluster, schedule, paused=True) for schedule in reversed(rules)),
            stores[5].purge_schedules(before_us=NOON + 3, limit=100),
        )
    for schedule in rules:
        holder = (await known(cluster, schedule)).current_job
        running_now = [
            start.key
            for start in rest
            if start.envelope.schedule == schedule.key and (await cluster.row(start.key)).status is JobStatus.PROCESSING
        ]
        assert running_now in ([], [holder]), "never two at once"


async def queue(cluster: Cluster) -> Schedule:
    return await added(cluster, "queue", rule=replace(EVERY_MINUTE, overlap=Overlap.QUEUE))


@pytest.mark.parametrize("cluster", [name for name in with_locks() if name.startswith("postgresql")], indirect=True)
async def test_nobody_waits_for_what_another_planner_takes(cluster: Cluster) -> None:
    await added(cluster)
    other = await cluster.other()
    taking = await _begun(cluster, due(cluster))
    beside = asyncio.create_task(due(cluster, store=other))
    await cluster.commits.turn()
    has_waited = not beside.done()
    await cluster.commits.let_go()
    assert [await taking, await beside, has_waited] == [["report"], [], False]
