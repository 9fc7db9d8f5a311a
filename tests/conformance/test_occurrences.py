"""Every moment of a schedule becomes one job, whoever plans it, however often."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from jobmaster.errors import SerializationError
from jobmaster.model.ids import JobKey
from jobmaster.model.schedule import OccurrenceRecord, Schedule, ScheduleStatus, Trigger, occurrence_key
from jobmaster.model.states import JobStatus
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
    AGE,
    CLAIM,
    EVERY_HOUR,
    IDLE,
    MINUTE,
    added,
    apply,
    changed,
    due,
    kept,
    known,
    made,
    moments,
    plan_of,
    planned,
    run,
    static,
)

# -- due_schedules


@case("success", "due_schedules")
async def test_schedules_are_due_once_those_first_that_were_due_first(cluster: Cluster) -> None:
    await added(cluster, "first")
    cluster.later(1)
    await added(cluster, "second")
    cluster.later(1)
    third = await added(cluster, "third")
    answer = await cluster.store.due_schedules(limit=2, claim_us=CLAIM, idle_us=IDLE)
    assert [one.name for one in answer.schedules] == ["first", "second"]
    assert answer.now_us == cluster.now_us
    assert (answer.next_us or 0) <= cluster.now_us, "the limit was reached"
    assert [one.plan_at_us for one in answer.schedules] == [cluster.now_us + CLAIM] * 2
    answer = await cluster.store.due_schedules(limit=2, claim_us=CLAIM, idle_us=IDLE)
    assert [one.name for one in answer.schedules] == ["third"]
    assert answer.schedules[0] == await known(cluster, third)
    answer = await cluster.store.due_schedules(limit=2, claim_us=CLAIM, idle_us=IDLE)
    assert (answer.schedules, answer.next_us) == ([], cluster.now_us + CLAIM)


@case("repeat", "due_schedules")
async def test_what_a_dead_planner_had_comes_back(cluster: Cluster) -> None:
    await added(cluster)
    assert await due(cluster) == ["report"]
    cluster.later(4.9)
    assert await due(cluster) == []
    cluster.later(0.2)
    assert await due(cluster) == ["report"]


@case("conflict", "due_schedules")
async def test_what_is_paused_parked_ended_or_in_nobodys_code_is_not_due(cluster: Cluster) -> None:
    await changed(cluster, await added(cluster, "paused"), paused=True)
    await changed(cluster, await added(cluster, "canceled"), status=ScheduleStatus.CANCELED)
    await apply(cluster, plan_of(await added(cluster, "parked"), error="no zone", plan_at_us=NOON))
    await apply(cluster, plan_of(await added(cluster, "done"), status=ScheduleStatus.COMPLETED, plan_at_us=NOON))
    await apply(cluster, plan_of(await added(cluster, "never"), plan_at_us=None))
    await cluster.store.ensure_schedules([static()])
    answer = await cluster.store.due_schedules(limit=10, claim_us=CLAIM, idle_us=IDLE)
    assert [one.name for one in answer.schedules] == ["report"]
    cluster.later(301)
    answer = await cluster.store.due_schedules(limit=10, claim_us=CLAIM, idle_us=IDLE)
    assert (answer.schedules, answer.next_us) == ([], None), "nobody has it in his code"
    assert (await known(cluster, static())).plan_at_us is None
    cluster.later(3000)
    assert await kept(cluster, static()) == []
    answer = await cluster.store.due_schedules(limit=10, claim_us=CLAIM, idle_us=IDLE)
    assert [(one.name, one.cursor_us) for one in answer.schedules] == [("report", None)]
    cluster.later(301)
    assert await due(cluster) == []
    await cluster.store.ensure_schedules([static()])
    assert await due(cluster) == ["report"]


@case("race", "due_schedules")
async def test_of_many_planners_each_gets_other_schedules(cluster: Cluster) -> None:
    for number in range(12):
        await added(cluster, f"s{number}")
    stores = [await cluster.other() for _ in range(4)]
    answers = await asyncio.gather(*(due(cluster, limit=5, store=store) for store in stores))
    names = [name for some in answers for name in some]
    assert len(names) == len(set(names)) <= 12
    assert sorted(names + await due(cluster)) == sorted(f"s{number}" for number in range(12))


# -- plan_schedules


@case("success", "plan_schedules", "schedule_occurrences")
async def test_a_plan_makes_jobs_and_moves_the_cursor(cluster: Cluster) -> None:
    schedule = await added(cluster)
    later = [NOON + MINUTE, NOON + 2 * MINUTE]
    assert await apply(cluster, plan_of(schedule, *later, plan_at_us=NOON + 7)) == [True]
    after = await known(cluster, schedule)
    assert after == msgspec.structs.replace(schedule, cursor_us=later[1], last_at_us=later[1], plan_at_us=NOON + 7), (
        "its version is the same"
    )
    keys = [occurrence_key(schedule.key, at_us) for at_us in later]
    row = await cluster.row(keys[0])
    assert (row.status, row.due_us, row.lane, row.gen) == (JobStatus.HELD_ON_MASTER, later[0], "mail", 0)
    found = await cluster.store.schedule_occurrences(schedule.key, limit=10)
    assert found == [OccurrenceRecord(at, key, Trigger.SCHEDULE) for at, key in zip(later, keys, strict=True)][::-1]
    cluster.later(60)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    assert [job.key for job in (await cluster.claim(bucket)).jobs] == keys[:1]


@case("conflict", "plan_schedules")
async def test_a_plan_of_something_else_changes_nothing(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON + SECOND)
    other = await added(cluster, "other")
    paused = await changed(cluster, await added(cluster, "paused"), paused=True)
    canceled = await changed(cluster, await added(cluster, "canceled"), status=ScheduleStatus.CANCELED)
    refused = [
        plan_of(schedule, NOON + MINUTE, version=2),
        plan_of(schedule, NOON + MINUTE, cursor_us=None),
        plan_of(schedule, NOON + MINUTE, cursor_us=NOON),
        plan_of(paused, NOON + MINUTE),
        plan_of(canceled, NOON + MINUTE),
        plan_of(made("nobody"), NOON + MINUTE),
    ]
    assert await apply(cluster, *refused, plan_of(other, NOON + MINUTE)) == [False] * 6 + [True]
    assert await known(cluster, schedule) == schedule
    assert await moments(cluster, schedule) == [NOON + SECOND]
    assert await moments(cluster, other) == [NOON + MINUTE], "one that is refused stops no other"
    assert await cluster.status(occurrence_key(schedule.key, NOON + MINUTE)) is None


@case("repeat", "plan_schedules")
async def test_a_plan_whose_answer_was_lost_makes_nothing_twice(cluster: Cluster) -> None:
    schedule = await added(cluster)
    plan = plan_of(schedule, NOON + MINUTE)
    assert await apply(cluster, plan) == [True]
    assert await apply(cluster, plan) == [False]
    assert await apply(cluster, plan_of(await known(cluster, schedule), NOON + MINUTE, NOON + 2 * MINUTE)) == [True]
    assert await moments(cluster, schedule) == [NOON + MINUTE, NOON + 2 * MINUTE]
    assert (await cluster.row(occurrence_key(schedule.key, NOON + MINUTE))).gen == 0


async def test_two_steps_of_one_schedule_in_a_batch_follow_each_other(cluster: Cluster) -> None:
    schedule = await added(cluster)
    first = plan_of(schedule, NOON + MINUTE)
    second = plan_of(schedule, NOON + 2 * MINUTE, cursor_us=NOON + MINUTE)
    assert await apply(cluster, first, first, second) == [True, False, True]
    assert (await known(cluster, schedule)).cursor_us == NOON + 2 * MINUTE
    assert await moments(cluster, schedule) == [NOON + MINUTE, NOON + 2 * MINUTE]


async def test_a_plan_that_comes_late_is_refused_by_its_age(cluster: Cluster) -> None:
    schedule = await added(cluster)
    plan = plan_of(schedule, NOON + MINUTE)
    decided = cluster.now_us
    cluster.later(31)
    assert await cluster.store.plan_schedules([plan], as_of_us=decided, max_age_us=AGE) == [False]
    assert await moments(cluster, schedule) == []
    assert await cluster.store.plan_schedules([plan], as_of_us=decided + SECOND, max_age_us=AGE) == [True]


async def test_a_planned_job_that_was_cancelled_before_is_stored_as_cancelled(cluster: Cluster) -> None:
    schedule = await added(cluster)
    key = occurrence_key(schedule.key, NOON + MINUTE)
    await cluster.store.cancel(key)
    await planned(cluster, schedule, NOON + MINUTE)
    assert await cluster.status(key) is JobStatus.CANCELLED


async def test_hostile_jobs_of_a_plan_are_refused_before_anything_is_written(cluster: Cluster) -> None:
    schedule = await added(cluster)
    plan = plan_of(schedule, occurrences=[run(schedule, NOON, custom_id="a\0")], new_cursor_us=NOON)
    with pytest.raises(SerializationError):
        await apply(cluster, plan)
    with pytest.raises(SerializationError):
        await cluster.store.add_occurrences(schedule.key, plan.occurrences)
    assert await known(cluster, schedule) == schedule


async def test_a_plan_with_nothing_moves_the_schedule_on(cluster: Cluster) -> None:
    schedule = await added(cluster)
    assert await apply(cluster, plan_of(schedule, new_cursor_us=NOON + MINUTE, plan_at_us=NOON + SECOND)) == [True]
    after = await known(cluster, schedule)
    assert (after.cursor_us, after.last_at_us, after.plan_at_us) == (NOON + MINUTE, None, NOON + SECOND)
    assert await apply(cluster) == []


@case("race", "plan_schedules", "add_occurrences", "schedule_occurrences")
async def test_many_planners_of_one_schedule_make_each_occurrence_once(cluster: Cluster) -> None:
    schedule = await added(cluster)
    stores = [await cluster.other() for _ in range(4)]

    async def plans(store: Any) -> int:
        done = 0
        for _ in range(6):
            now: Schedule = await store.get_schedule(schedule.key)
            at_us = (now.cursor_us or NOON) + MINUTE
            done += sum(await apply(cluster, plan_of(now, at_us, at_us + SECOND), store=store))
        return done

    second = NOON + 2 * MINUTE + SECOND  # which the planners come to, too

    async def by_hand(store: Any) -> int:
        return sum(await store.add_occurrences(schedule.key, [run(schedule, second, trigger=Trigger.BACKFILL)]))

    counts = await asyncio.gather(*map(plans, stores), *map(by_hand, stores))
    steps = range(1, sum(counts[:4]) + 1)
    of_plans = {NOON + step * MINUTE + (step - 1) * SECOND + extra for step in steps for extra in (0, SECOND)}
    there = await moments(cluster, schedule)
    assert there == sorted(of_plans | {second})
    assert sum(counts[4:]) <= 1
    assert (await known(cluster, schedule)).cursor_us == max(of_plans)
    for at_us in there:
        assert (await cluster.row(occurrence_key(schedule.key, at_us))).gen == 0


async def test_an_edit_beside_its_planners_leaves_nothing_of_the_old_plan(cluster: Cluster) -> None:
    schedule = await added(cluster)
    stores = [await cluster.other() for _ in range(3)]
    plan = plan_of(schedule, NOON + MINUTE, NOON + 2 * MINUTE)
    results = await asyncio.gather(
        apply(cluster, plan, store=stores[0]),
        changed(cluster, schedule, rule=EVERY_HOUR),
        apply(cluster, plan, store=stores[1]),
    )
    after = await known(cluster, schedule)
    assert (after.version, after.cursor_us, after.rule) == (2, None, EVERY_HOUR)
    assert await moments(cluster, schedule) == []
    assert (results[0] + results[2]).count(True) <= 1
    assert [await cluster.status(one.job.key) for one in plan.occurrences] == [None, None]


# -- add_occurrences


@case("success", "add_occurrences")
async def test_run_now_and_backfill_stand_beside_what_is_planned(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON + MINUTE)
    paused = await changed(cluster, schedule, paused=True)
    wanted = [run(paused, NOON, trigger=Trigger.RUN_NOW), run(paused, NOON - MINUTE, trigger=Trigger.BACKFILL)]
    assert await cluster.store.add_occurrences(schedule.key, wanted) == [True, True]
    assert await known(cluster, schedule) == paused
    found = await cluster.store.schedule_occurrences(schedule.key, limit=10)
    assert [(one.at_us, one.trigger) for one in found] == [
        (NOON, Trigger.RUN_NOW),
        (NOON - MINUTE, Trigger.BACKFILL),
    ]
    for one in wanted:
        assert await cluster.status(one.job.key) is JobStatus.HELD_ON_MASTER


@case("conflict", "add_occurrences")
async def test_a_moment_that_is_there_is_not_run_twice(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON)
    wanted = [run(schedule, NOON + number * MINUTE, trigger=Trigger.BACKFILL) for number in (-1, 0, 1)]
    assert await cluster.store.add_occurrences(schedule.key, wanted) == [True, False, True]
    found = await cluster.store.schedule_occurrences(schedule.key, limit=10)
    assert [one.trigger for one in found] == [Trigger.BACKFILL, Trigger.SCHEDULE, Trigger.BACKFILL]
    nobody = made("nobody")
    assert await cluster.store.add_occurrences(nobody.key, [run(nobody, NOON)]) == [False]
    assert await cluster.status(occurrence_key(nobody.key, NOON)) is None


@case("repeat", "add_occurrences")
async def test_a_repeated_run_now_is_one_run(cluster: Cluster) -> None:
    schedule = await added(cluster)
    one = run(schedule, NOON, trigger=Trigger.RUN_NOW)
    assert await cluster.store.add_occurrences(schedule.key, [one, one]) == [True, False]
    assert await cluster.store.add_occurrences(schedule.key, [one]) == [False]
    assert await cluster.store.add_occurrences(schedule.key, []) == []
    assert await moments(cluster, schedule) == [NOON]


async def test_a_run_now_of_a_job_that_is_there_is_not_made_again_at_another_moment(cluster: Cluster) -> None:
    schedule = await added(cluster)
    key = JobKey(b"the-run-by-hand!")
    one, later = (run(schedule, NOON + ahead, trigger=Trigger.RUN_NOW, key=key) for ahead in (0, SECOND))
    assert await cluster.store.add_occurrences(schedule.key, [one]) == [True]
    assert await cluster.store.add_occurrences(schedule.key, [later]) == [False]
    assert await moments(cluster, schedule) == [NOON]
    other = [run(schedule, NOON + ahead, trigger=Trigger.RUN_NOW, key=JobKey(b"another-by-hand!")) for ahead in (7, 8)]
    assert await cluster.store.add_occurrences(schedule.key, other) == [True, False]
    assert await moments(cluster, schedule) == [NOON, NOON + 7]


@case("race", "add_occurrences")
async def test_of_runs_now_of_one_job_that_are_made_at_once_one_is_made(cluster: Cluster) -> None:
    schedule = await added(cluster)
    stores = [await cluster.other() for _ in range(4)]
    key = JobKey(b"the-run-by-hand!")
    answers = await asyncio.gather(
        *(
            store.add_occurrences(schedule.key, [run(schedule, NOON + number, trigger=Trigger.RUN_NOW, key=key)])
            for number, store in enumerate(stores)
        )
    )
    assert sorted(new for (new,) in answers) == [False, False, False, True]
    assert len(await moments(cluster, schedule)) == 1


# -- schedule_occurrences


@case("repeat", "schedule_occurrences")
async def test_a_history_is_read_from_both_ends(cluster: Cluster) -> None:
    moments_of = [NOON + number * SECOND for number in range(5)]
    schedule = await planned(cluster, await added(cluster), *moments_of)
    read = cluster.store.schedule_occurrences

    async def at(**fields: Any) -> list[int]:
        first = [one.at_us - NOON for one in await read(schedule.key, **fields)]
        assert first == [one.at_us - NOON for one in await read(schedule.key, **fields)]
        return [moment // SECOND for moment in first]

    assert await at(limit=2) == [4, 3]
    assert await at(limit=9, before_us=NOON + 3 * SECOND) == [2, 1, 0]
    assert await at(limit=2, after_us=NOON) == [1, 2]
    assert await at(limit=9, after_us=NOON + 4 * SECOND) == []


@case("conflict", "schedule_occurrences")
async def test_a_schedule_that_nobody_knows_has_no_history(cluster: Cluster) -> None:
    assert await cluster.store.schedule_occurrences(made().key, limit=10) == []
    with pytest.raises(SerializationError):
        await cluster.store.schedule_occurrences(b"", limit=10)


# -- signals


@pytest.mark.parametrize("verb", ["add", "ensure", "keep", "edit", "resume", "clear"])
async def test_planners_are_told_of_what_they_must_look_at(cluster: Cluster, verb: str) -> None:
    schedule = await added(cluster)
    await cluster.store.ensure_schedules([static("gone")])
    if verb == "keep":
        cluster.later(10)
        await cluster.store.expire_schedules(idle_us=SECOND, limit=10)
    if verb == "resume":
        await changed(cluster, schedule, paused=True)
    if verb == "clear":
        await apply(cluster, plan_of(schedule, error="broken"))
    told = asyncio.Event()
    other = await cluster.other()
    subscription = other.subscribe("schedules", told.set)
    await asyncio.sleep(0)
    if cluster.adapter.needs:
        async with asyncio.timeout(10):  # a session says once that it has begun to listen
            await told.wait()
    told.clear()
    acts = {
        "add": lambda: added(cluster, "new"),
        "ensure": lambda: cluster.store.ensure_schedules([static("new")]),
        "keep": lambda: kept(cluster, static("gone")),
        "edit": lambda: changed(cluster, schedule, rule=EVERY_HOUR),
        "resume": lambda: changed(cluster, schedule, paused=False),
        "clear": lambda: changed(cluster, schedule, clear_error=True),
    }
    await acts[verb]()
    async with asyncio.timeout(10):
        await told.wait()
    subscription.close()


async def test_claimers_are_told_of_jobs_that_a_plan_made(cluster: Cluster) -> None:
    schedule = await added(cluster)
    told = asyncio.Event()
    subscription = (await cluster.other()).subscribe("held", told.set)
    await asyncio.sleep(0)
    if cluster.adapter.needs:
        async with asyncio.timeout(10):
            await told.wait()
    told.clear()
    await planned(cluster, schedule, NOON + MINUTE)
    async with asyncio.timeout(10):
        await told.wait()
    subscription.close()
