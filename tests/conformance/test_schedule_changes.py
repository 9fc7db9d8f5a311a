"""A schedule is changed as a whole, by a version, and what it does next follows from what was changed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.model.schedule import Overlap
from jobmaster.ports.schedules import ScheduleChange
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
    ACTIVE,
    CANCELED,
    COMPLETED,
    EVERY_HOUR,
    EVERY_MINUTE,
    MINUTE,
    added,
    apply,
    changed,
    due,
    known,
    made,
    moments,
    plan_of,
    planned,
)


@case("success", "change_schedule")
async def test_an_edit_replaces_what_it_names_and_plans_anew(cluster: Cluster) -> None:
    before = await planned(cluster, await added(cluster), NOON + SECOND, NOON + MINUTE)
    cluster.later(10)
    after = await changed(cluster, before, rule=EVERY_HOUR, template=b"new", task="print", lane="slow", priority=1)
    assert after == msgspec.structs.replace(
        before, rule=EVERY_HOUR, template=b"new", task="print", lane="slow", priority=1, version=2,
        since_us=cluster.now_us, cursor_us=None, plan_at_us=cluster.now_us,
    )  # fmt: skip
    assert after == await known(cluster, before)
    assert await moments(cluster, before) == [NOON + SECOND], "what had its moment stays, what was ahead goes"
    ahead = plan_of(before, NOON + MINUTE).occurrences[0].job
    assert await cluster.status(ahead.key) is None


@case("conflict", "change_schedule")
async def test_a_change_of_another_version_or_to_nowhere_is_refused(cluster: Cluster) -> None:
    schedule = await added(cluster)
    store = cluster.store
    assert await store.change_schedule(schedule.key, ScheduleChange(task="x"), version=2) is None
    assert await store.change_schedule(made("nobody").key, ScheduleChange(task="x"), version=None) is None
    assert await store.change_schedule(schedule.key, ScheduleChange(status=ACTIVE), version=None) is None
    canceled = await store.change_schedule(schedule.key, ScheduleChange(status=CANCELED), version=1)
    assert (canceled.status, canceled.ended_us, canceled.plan_at_us) == (CANCELED, NOON, None)
    assert await store.change_schedule(schedule.key, ScheduleChange(status=ACTIVE), version=None) is None
    await added(cluster, "other")
    third = await added(cluster, "third")
    with pytest.raises(ConfigurationError, match="'other' is taken"):
        await store.change_schedule(third.key, ScheduleChange(name="other", task="x"), version=None)
    assert await known(cluster, third) == third
    assert (await changed(cluster, third, name="report")).name == "report", "a canceled one bears its name no more"


async def test_a_new_name_changes_nothing_else(cluster: Cluster) -> None:
    before = await planned(cluster, await added(cluster), NOON + MINUTE)
    after = await changed(cluster, before, name="other")
    assert after == msgspec.structs.replace(before, name="other", version=2)
    assert await moments(cluster, before) == [NOON + MINUTE]


async def test_a_change_that_comes_later_than_it_was_planned_for_is_refused(cluster: Cluster) -> None:
    schedule = await added(cluster)
    pause, store = ScheduleChange(paused=True), cluster.store
    assert await store.change_schedule(schedule.key, pause, version=1, planned_us=NOON - 1) is None
    assert await known(cluster, schedule) == schedule
    paused = await store.change_schedule(schedule.key, pause, version=1, planned_us=NOON)
    assert (paused.paused, paused.version) == (True, 2)


@case("repeat", "change_schedule")
async def test_what_is_so_already_is_no_change(cluster: Cluster) -> None:
    schedule = await added(cluster)
    paused = await changed(cluster, schedule, paused=True)
    cluster.later(1)
    assert await changed(cluster, schedule, paused=True) == paused
    assert await changed(cluster, schedule, task=schedule.task, rule=EVERY_MINUTE, clear_error=True) == paused
    assert paused.version == 2
    again = ScheduleChange(paused=True)
    assert await cluster.store.change_schedule(schedule.key, again, version=1) is None, "the version has moved on"


@case("race", "change_schedule")
async def test_of_two_edits_of_one_version_one_is_made(cluster: Cluster) -> None:
    schedule = await added(cluster)
    stores = [await cluster.other() for _ in range(4)]
    answers = await asyncio.gather(
        *(
            store.change_schedule(schedule.key, ScheduleChange(task=f"t{number}"), version=1)
            for number, store in enumerate(stores)
        )
    )
    made_one = [answer for answer in answers if answer is not None]
    assert len(made_one) == 1
    assert await known(cluster, schedule) == made_one[0]


async def test_a_pause_keeps_nothing_planned_and_resuming_catches_nothing_up(cluster: Cluster) -> None:
    before = await planned(cluster, await added(cluster), NOON + SECOND, NOON + MINUTE)
    paused = await changed(cluster, before, paused=True)
    assert (paused.paused, paused.plan_at_us, await moments(cluster, before)) == (True, None, [])
    cluster.later(3600)
    assert await due(cluster) == []
    resumed = await changed(cluster, before, paused=False)
    assert (resumed.since_us, resumed.cursor_us, resumed.plan_at_us) == (cluster.now_us, None, cluster.now_us)
    assert await due(cluster) == ["report"]


async def test_a_parked_one_is_planned_again_when_its_error_is_cleared_or_its_rule_is_new(cluster: Cluster) -> None:
    broken = await added(cluster)
    parked = plan_of(broken, error="no such\0 zone" + "!" * 2000, new_cursor_us=NOON)
    assert await cluster.store.plan_schedules([parked], as_of_us=NOON, max_age_us=0) == [True]
    after = await known(cluster, broken)
    assert after.error.startswith("no such\ufffd zone!")
    assert (after.plan_at_us, await due(cluster)) == (None, [])
    assert (await changed(cluster, broken, task="other")).error == after.error, "that was not what was wrong"
    assert await due(cluster) == []
    cleared = await changed(cluster, broken, clear_error=True)
    assert (cleared.error, cleared.plan_at_us, await due(cluster)) == ("", NOON, ["report"])
    again = plan_of(await known(cluster, broken), error="no zone")
    assert await cluster.store.plan_schedules([again], as_of_us=NOON, max_age_us=0) == [True]
    assert (await changed(cluster, broken, rule=EVERY_HOUR)).error == ""
    assert await due(cluster) == ["report"]


async def test_clearing_the_error_of_a_paused_one_plans_nothing(cluster: Cluster) -> None:
    schedule = await added(cluster)
    assert await apply(cluster, plan_of(schedule, error="broken")) == [True]
    await changed(cluster, schedule, paused=True)
    assert (await changed(cluster, schedule, clear_error=True)).plan_at_us is None
    assert await due(cluster) == []


async def test_what_has_ended_is_taken_up_again(cluster: Cluster) -> None:
    schedule = await added(cluster)
    done = plan_of(schedule, NOON, status=COMPLETED)
    assert await cluster.store.plan_schedules([done], as_of_us=NOON, max_age_us=0) == [True]
    completed = await known(cluster, schedule)
    assert (completed.status, completed.ended_us, completed.plan_at_us) == (COMPLETED, NOON, None)
    cluster.later(5)
    again = await changed(cluster, schedule, status=ACTIVE, rule=EVERY_HOUR)
    assert (again.status, again.ended_us, again.since_us, again.cursor_us) == (ACTIVE, None, cluster.now_us, None)
    assert await due(cluster) == ["report"]


async def test_an_edit_of_anything_but_the_moments_keeps_the_beat(cluster: Cluster) -> None:
    before = await planned(cluster, await added(cluster), NOON + SECOND, NOON + MINUTE)
    cluster.later(10)
    rule = msgspec.structs.replace(before.rule, overlap=Overlap.QUEUE, end_us=NOON + 100 * MINUTE)
    after = await changed(cluster, before, priority=1, template=b"new", rule=rule)
    assert (after.since_us, after.cursor_us, after.plan_at_us) == (before.since_us, NOON + SECOND, cluster.now_us)
    assert await moments(cluster, before) == [NOON + SECOND]
    cluster.later(7200)
    late = await changed(cluster, before, priority=2)
    assert late.cursor_us == NOON + SECOND, "what was missed meanwhile is the misfire policy's"
