"""Schedules are made once, changed as a whole, and seen as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from jobmaster.errors import ConfigurationError, SerializationError
from jobmaster.model.schedule import (
    Misfire,
    Overlap,
    Rule,
    Schedule,
    ScheduleKind,
    ScheduleStatus,
    Trigger,
    replanned_key,
)
from jobmaster.model.states import CancelOutcome, JobStatus
from jobmaster.ports.query import JobQuery
from jobmaster.ports.schedules import ScheduleChange, ScheduleQuery
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
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
    run,
    static,
)

ACTIVE, CANCELED, INACTIVE, COMPLETED = (
    ScheduleStatus.ACTIVE,
    ScheduleStatus.CANCELED,
    ScheduleStatus.INACTIVE,
    ScheduleStatus.COMPLETED,
)
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


# -- add_schedule, get_schedule, find_schedule


@case("success", "add_schedule", "get_schedule", "find_schedule")
async def test_a_schedule_is_stored_whole_active_and_due_for_planning(cluster: Cluster) -> None:
    wanted = made(rule=WHOLE, source="x.py:1", status=ScheduleStatus.PENDING_SAVE, version=9, ended_us=5, error="no")
    stored = await cluster.store.add_schedule(wanted)
    assert stored == msgspec.structs.replace(
        wanted, status=ACTIVE, version=1, created_us=NOON, since_us=NOON, plan_at_us=NOON, ended_us=None, error=""
    )
    assert await cluster.store.get_schedule(wanted.key) == stored
    assert await cluster.store.find_schedule("report") == stored
    assert await due(cluster) == ["report"]


@case("conflict", "add_schedule", "find_schedule")
async def test_a_name_belongs_to_one_schedule_until_that_is_canceled(cluster: Cluster) -> None:
    first = await added(cluster)
    other = made("other", name="report")
    assert await cluster.store.add_schedule(other) == first
    assert await cluster.store.get_schedule(other.key) is None
    await changed(cluster, first, status=CANCELED)
    assert await cluster.store.find_schedule("report") is None
    assert (await cluster.store.add_schedule(other)).key == other.key
    assert (await cluster.store.find_schedule("report")).key == other.key


@case("repeat", "add_schedule", "get_schedule", "find_schedule")
async def test_a_repeated_addition_answers_what_is_stored(cluster: Cluster) -> None:
    first = await planned(cluster, await added(cluster), NOON + SECOND)
    cluster.later(1)
    assert await cluster.store.add_schedule(made(rule=EVERY_HOUR)) == first
    assert await cluster.store.get_schedule(first.key) == await cluster.store.get_schedule(first.key) == first
    assert await cluster.store.find_schedule("report") == await cluster.store.find_schedule("report")


@case("race", "add_schedule", "get_schedule", "find_schedule", "list_schedules")
async def test_of_many_that_add_at_once_one_is_stored(cluster: Cluster) -> None:
    stores = [await cluster.other() for _ in range(4)]
    same_name = [store.add_schedule(made(f"s{number}", name="report")) for number, store in enumerate(stores)]
    same_key = [store.add_schedule(made("twin")) for store in stores]
    looks = [stores[0].get_schedule(made("twin").key), stores[1].find_schedule("twin")]
    lists = [stores[2].list_schedules(ScheduleQuery()), stores[3].list_schedules(ScheduleQuery())]
    answers: list[Any] = await asyncio.gather(*same_name, *same_key, *looks, *lists)
    assert len({answer.key for answer in answers[:4]}) == 1
    assert {answer.key for answer in answers[4:8]} == {made("twin").key}
    assert all(look is None or look == answers[4] for look in answers[8:10])
    page = await cluster.store.list_schedules(ScheduleQuery())
    assert len(page.schedules) == 2
    assert all(len(some.schedules) <= 2 for some in answers[10:])


@case("conflict", "get_schedule")
async def test_an_unknown_schedule_is_none_and_a_key_is_sixteen_bytes(cluster: Cluster) -> None:
    assert await cluster.store.get_schedule(made().key) is None
    assert await cluster.store.find_schedule("") is None
    with pytest.raises(SerializationError):
        await cluster.store.get_schedule(b"short")


async def test_schedules_without_a_name_do_not_meet(cluster: Cluster) -> None:
    for name in ("a", "b"):
        assert (await added(cluster, name, key=made(name).key)).name == name
    nameless = [await cluster.store.add_schedule(made(name, name="")) for name in ("c", "d")]
    assert [one.key for one in nameless] == [made("c").key, made("d").key]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a\0b"},
        {"name": "x" * 256},
        {"task": "\ud800"},
        {"rule": Rule("Cron", "\0")},
        {"rule": Rule("Cron", "* * * * *", end_us=-1)},
        {"priority": 6},
    ],
    ids=["nul", "long name", "surrogate", "nul in a rule", "before 1970", "priority"],
)
async def test_hostile_schedules_are_refused_before_anything_is_written(
    cluster: Cluster, fields: dict[str, Any]
) -> None:
    with pytest.raises(SerializationError):
        await cluster.store.add_schedule(made(**fields))
    with pytest.raises(SerializationError):
        await cluster.store.ensure_schedules([made("good"), made(**fields)])
    assert (await cluster.store.list_schedules(ScheduleQuery())).schedules == []


async def test_one_that_is_added_paused_is_not_planned(cluster: Cluster) -> None:
    stored = await added(cluster, paused=True)
    assert (stored.plan_at_us, await due(cluster)) == (None, [])


# -- change_schedule


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


async def test_clearing_the_error_of_a_paused_one_plans_nothing(cluster: Cluster) -> None:
    schedule = await added(cluster)
    assert await apply(cluster, plan_of(schedule, error="broken")) == [True]
    await changed(cluster, schedule, paused=True)
    assert (await changed(cluster, schedule, clear_error=True)).plan_at_us is None
    assert await due(cluster) == []


# -- ensure_schedules, keep_schedules, expire_schedules


@case("success", "ensure_schedules")
async def test_what_the_code_has_is_stored(cluster: Cluster) -> None:
    one, two = await cluster.store.ensure_schedules([static("one"), static("two", rule=WHOLE)])
    assert (one.status, one.kind, one.ensured_us, one.since_us) == (ACTIVE, ScheduleKind.STATIC, NOON, NOON)
    assert two.rule == WHOLE
    assert sorted(await due(cluster)) == ["one", "two"]
    assert await known(cluster, static("two")) == msgspec.structs.replace(two, plan_at_us=NOON + 5 * SECOND)


@case("repeat", "ensure_schedules")
async def test_what_did_not_change_keeps_its_cursor(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    before = await planned(cluster, first, NOON + SECOND, NOON + MINUTE)
    cluster.later(7200)
    (after,) = await cluster.store.ensure_schedules([static()])
    assert after == msgspec.structs.replace(before, ensured_us=cluster.now_us)
    assert await moments(cluster, first) == [NOON + SECOND, NOON + MINUTE]


@case("conflict", "ensure_schedules")
async def test_a_definition_that_changed_is_planned_anew(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    before = await planned(cluster, first, NOON + SECOND, NOON + MINUTE)
    await changed(cluster, before, paused=True)
    cluster.later(10)
    (after,) = await cluster.store.ensure_schedules([static(rule=EVERY_HOUR)])
    assert (after.rule, after.version, after.paused) == (EVERY_HOUR, 3, True), "paused stays paused"
    assert (after.since_us, after.cursor_us, after.plan_at_us) == (cluster.now_us, None, None)
    await changed(cluster, before, status=CANCELED)
    (canceled,) = await cluster.store.ensure_schedules([static(task="else")])
    assert (canceled.status, canceled.task) == (CANCELED, "else"), "Canceled stays Canceled"


async def test_a_definition_that_changed_its_call_alone_misses_nothing_and_keeps_its_beat(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    before = await planned(cluster, first, NOON + SECOND, NOON + MINUTE, NOON + 2 * MINUTE)
    cluster.later(61)
    (after,) = await cluster.store.ensure_schedules([static(template=b"new")])
    assert (after.version, after.template, after.since_us) == (2, b"new", before.since_us)
    assert (after.cursor_us, after.plan_at_us) == (NOON + MINUTE, cluster.now_us)
    assert await moments(cluster, first) == [NOON + SECOND, NOON + MINUTE]
    await planned(cluster, after, NOON + 2 * MINUTE)
    cluster.later(7200)
    (late,) = await cluster.store.ensure_schedules([static(template=b"newer")])
    assert late.cursor_us == NOON + 2 * MINUTE, "what was missed meanwhile is the misfire policy's"
    moved = static(template=b"newer", source="app.py:99")
    assert await cluster.store.ensure_schedules([moved]) == [msgspec.structs.replace(late, source="app.py:99")]


async def test_a_new_call_before_the_first_occurrence_loses_nothing(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    assert await apply(cluster, plan_of(first, new_cursor_us=NOON + MINUTE)) == [True]
    cluster.later(1)
    (after,) = await cluster.store.ensure_schedules([static(task="else")])
    assert (after.cursor_us, after.since_us) == (None, NOON)


async def test_runs_by_hand_are_no_part_of_the_beat(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    before = await planned(cluster, first, NOON + SECOND, NOON + MINUTE)
    cluster.later(10)
    by_hand = run(before, cluster.now_us, trigger=Trigger.RUN_NOW)
    assert await cluster.store.add_occurrences(before.key, [by_hand]) == [True]
    (after,) = await cluster.store.ensure_schedules([static(template=b"new")])
    assert after.cursor_us == NOON + SECOND


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


async def test_a_worker_that_has_it_in_its_code_mends_a_parked_one(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    assert await apply(cluster, plan_of(first, error="no such language", new_cursor_us=NOON)) == [True]
    assert await cluster.store.keep_schedules([first.key]) == 1
    assert await due(cluster) == []
    (mended,) = await cluster.store.ensure_schedules([static()])
    assert (mended.error, mended.version, mended.cursor_us, mended.plan_at_us) == ("", 1, NOON, NOON)
    assert await due(cluster) == ["report"]


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


async def test_what_a_person_cancelled_or_what_has_come_is_not_planned_again(cluster: Cluster) -> None:
    by_person, come = NOON + 10 * SECOND, NOON + 5 * SECOND
    schedule = await planned(cluster, await added(cluster), come, by_person)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    claimed = {job.due_us: job.key for job in (await cluster.claim(bucket, window=15)).jobs}
    await cluster.store.cancel(claimed[by_person])
    await changed(cluster, schedule, paused=True)
    cluster.later(6)
    back = await changed(cluster, schedule, paused=False)
    assert await apply(cluster, plan_of(back, come, by_person)) == [True]
    assert await moments(cluster, schedule) == [come, by_person]
    for at_us in (come, by_person):
        assert await cluster.status(claimed[at_us]) is JobStatus.CANCELLED
        assert await cluster.status(replanned_key(claimed[at_us])) is None


async def test_static_schedules_get_free_names(cluster: Cluster) -> None:
    dynamic = await added(cluster, "dynamic")
    named = await cluster.store.ensure_schedules([static("one"), static("x", name="dynamic"), static("y", name="one")])
    assert [one.name for one in named] == ["one", "", ""]
    assert await known(cluster, dynamic) == dynamic
    cluster.later(1)
    again = await cluster.store.ensure_schedules([static("x", name="dynamic")])
    assert again == [msgspec.structs.replace(named[1], ensured_us=cluster.now_us)], "that is no change"
    (heir,) = await cluster.store.ensure_schedules([static("z", name="one")])
    assert (heir.name, (await known(cluster, named[0])).name) == ("one", "")
    assert (await cluster.store.find_schedule("one")).key == heir.key
    await changed(cluster, dynamic, status=CANCELED)
    assert [one.name for one in await cluster.store.ensure_schedules([static("x", name="dynamic")])] == ["dynamic"]
    a, b = await cluster.store.ensure_schedules([static("a"), static("b")])
    swapped = await cluster.store.ensure_schedules([static("a", name="b"), static("b", name="a")])
    assert [one.name for one in swapped] == ["b", "a"]
    assert (await cluster.store.find_schedule("a")).key == b.key
    assert (await cluster.store.find_schedule("b")).key == a.key


@case("race", "ensure_schedules", "keep_schedules")
async def test_many_workers_that_start_at_once_ensure_the_same(cluster: Cluster) -> None:
    stores = [await cluster.other() for _ in range(4)]
    wanted = [static(name) for name in ("one", "two", "three")]
    orders = (wanted, wanted[::-1], wanted[1:] + wanted[:1], wanted)
    keeps = [store.keep_schedules([one.key for one in wanted]) for store in stores]
    answers = await asyncio.gather(
        *(store.ensure_schedules(order) for store, order in zip(stores, orders, strict=True)), *keeps
    )
    assert all(kept in {0, 1, 2, 3} for kept in answers[4:])
    assert {one.version for answer in answers[:4] for one in answer} == {1}
    page = await cluster.store.list_schedules(ScheduleQuery(kind=ScheduleKind.STATIC))
    assert [one.name for one in page.schedules] == ["one", "three", "two"]


@case("success", "keep_schedules", "expire_schedules")
async def test_what_no_code_has_any_more_becomes_inactive_and_comes_back_without_a_storm(cluster: Cluster) -> None:
    (first, other) = await cluster.store.ensure_schedules([static(), static("other")])
    ahead = await planned(cluster, first, NOON + 3 * 3600 * SECOND)
    cluster.later(3599)
    assert await cluster.store.keep_schedules([other.key, made("nobody").key]) == 1
    cluster.later(2)
    assert await cluster.store.expire_schedules(idle_us=3600 * SECOND, limit=10) == [first.key]
    gone = await known(cluster, first)
    assert (gone.status, gone.ended_us, gone.plan_at_us) == (INACTIVE, cluster.now_us, None)
    assert await moments(cluster, first) == []
    assert (await known(cluster, other)).status is ACTIVE
    cluster.later(3600)
    assert await cluster.store.keep_schedules([first.key]) == 1
    back = await known(cluster, first)
    assert (back.status, back.since_us, back.cursor_us, back.ended_us) == (ACTIVE, cluster.now_us, None, None)
    assert back.version > ahead.version
    assert "report" in await due(cluster)


async def test_what_somebody_kept_lately_is_not_written_again(cluster: Cluster) -> None:
    (first, second) = await cluster.store.ensure_schedules([static("one"), static("two")])
    cluster.later(40)
    both = [first.key, second.key]
    assert await cluster.store.keep_schedules(both, fresh_us=45 * SECOND) == 2
    assert (await known(cluster, first)).ensured_us == NOON
    assert await cluster.store.keep_schedules([first.key]) == 1
    cluster.later(10)
    assert await cluster.store.keep_schedules(both, fresh_us=45 * SECOND) == 2
    assert [(await known(cluster, one)).ensured_us - NOON for one in (first, second)] == [40 * SECOND, 50 * SECOND]
    await cluster.store.expire_schedules(idle_us=0, limit=10)
    assert await cluster.store.keep_schedules(both, fresh_us=45 * SECOND) == 2
    assert (await known(cluster, first)).status is ACTIVE, "what sleeps is woken in any case"


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


@case("repeat", "keep_schedules", "expire_schedules")
async def test_what_is_inactive_already_is_not_told_again(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    cluster.later(10)
    assert await cluster.store.expire_schedules(idle_us=5 * SECOND, limit=10) == [first.key]
    assert await cluster.store.expire_schedules(idle_us=5 * SECOND, limit=10) == []
    (back,) = await cluster.store.ensure_schedules([static()])
    assert (back.status, back.since_us, back.cursor_us) == (ACTIVE, cluster.now_us, None)
    assert await cluster.store.keep_schedules([first.key]) == await cluster.store.keep_schedules([first.key]) == 1
    assert await known(cluster, first) == back


@case("conflict", "keep_schedules", "expire_schedules")
async def test_only_static_ones_are_kept_and_expire(cluster: Cluster) -> None:
    dynamic = await added(cluster, "dynamic")
    (paused, canceled) = await cluster.store.ensure_schedules([static("paused"), static("canceled")])
    await changed(cluster, paused, paused=True)
    await changed(cluster, canceled, status=CANCELED)
    cluster.later(10)
    assert await cluster.store.keep_schedules([dynamic.key]) == 0
    assert (await known(cluster, dynamic)).ensured_us == 0
    assert await cluster.store.expire_schedules(idle_us=SECOND, limit=10) == [paused.key]
    assert await cluster.store.keep_schedules([paused.key, canceled.key]) == 2
    assert (await known(cluster, canceled)).status is CANCELED
    back = await known(cluster, paused)
    assert (back.status, back.paused, back.plan_at_us) == (ACTIVE, True, None)


@case("race", "expire_schedules")
async def test_two_coordinators_expire_each_schedule_once(cluster: Cluster) -> None:
    wanted = [static(f"s{number}") for number in range(6)]
    await cluster.store.ensure_schedules(wanted)
    cluster.later(10)
    stores = [await cluster.other() for _ in range(3)]
    told = await asyncio.gather(*(store.expire_schedules(idle_us=SECOND, limit=10) for store in stores))
    keys = [key for some in told for key in some]
    assert sorted(keys) == sorted(one.key for one in wanted)


async def test_an_expiry_takes_no_more_than_its_limit(cluster: Cluster) -> None:
    await cluster.store.ensure_schedules([static(f"s{number}") for number in range(3)])
    cluster.later(10)
    assert len(await cluster.store.expire_schedules(idle_us=SECOND, limit=2)) == 2
    assert len(await cluster.store.expire_schedules(idle_us=SECOND, limit=2)) == 1


# -- list_schedules


@case("success", "list_schedules")
async def test_schedules_are_listed_by_name_page_by_page(cluster: Cluster) -> None:
    names = ["Zoo", "a", "b", "e\u0301", "\u00e9", "z", "\U0001f984"]
    for name in [*names[::-1], "", " "]:
        await cluster.store.add_schedule(made(name or "nameless", name=name))
    await cluster.store.add_schedule(made("nameless too", name=""))
    listed: list[Schedule] = []
    after = None
    while True:
        page = await cluster.store.list_schedules(ScheduleQuery(), limit=3, after=after)
        listed += page.schedules
        after = page.after
        if after is None:
            break
    assert [one.name for one in listed] == [" ", *sorted(names), "", ""]
    assert listed[-2].key < listed[-1].key


@case("conflict", "list_schedules")
async def test_pages_that_cannot_be_are_refused(cluster: Cluster) -> None:
    for limit, after in ((0, None), (1_001, None), (10, "no page")):
        with pytest.raises(ConfigurationError):
            await cluster.store.list_schedules(ScheduleQuery(), limit=limit, after=after)


@case("repeat", "list_schedules")
async def test_a_repeated_list_is_the_same(cluster: Cluster) -> None:
    await added(cluster)
    first = await cluster.store.list_schedules(ScheduleQuery())
    assert await cluster.store.list_schedules(ScheduleQuery()) == first


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (ScheduleQuery(), ["broken", "done", "other", "paused", "static"]),
        (ScheduleQuery(statuses=(CANCELED,)), ["done"]),
        (ScheduleQuery(statuses=(CANCELED, ACTIVE), kind=ScheduleKind.STATIC), ["static"]),
        (ScheduleQuery(statuses=()), []),
        (ScheduleQuery(task="print"), ["other"]),
        (ScheduleQuery(lane="slow"), ["other"]),
        (ScheduleQuery(paused=True), ["paused"]),
        (ScheduleQuery(paused=False, broken=True), ["broken"]),
        (ScheduleQuery(broken=False, kind=ScheduleKind.DYNAMIC), ["done", "other", "paused"]),
        (ScheduleQuery(text="THE"), ["other"]),
        (ScheduleQuery(text="prin"), ["other"]),
        (ScheduleQuery(text="every HOUR"), ["other"]),
        (ScheduleQuery(text=made("done").key.hex()[3:20]), ["done"]),
        (ScheduleQuery(text="%"), []),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else None,
)
async def test_a_list_has_what_was_asked_for(cluster: Cluster, query: ScheduleQuery, names: list[str]) -> None:
    broken = await added(cluster, "broken")
    await cluster.store.plan_schedules([plan_of(broken, error="no zone")], as_of_us=NOON, max_age_us=0)
    await changed(cluster, await added(cluster, "done"), status=CANCELED)
    await added(cluster, "other", task="print", lane="slow", rule=EVERY_HOUR)
    await added(cluster, "paused", paused=True)
    await cluster.store.ensure_schedules([static("static")])
    page = await cluster.store.list_schedules(query)
    assert ([one.name for one in page.schedules], page.after) == (names, None)


# -- list_jobs


@case("success", "list_jobs")
async def test_a_list_may_leave_out_what_is_planned_ahead(cluster: Cluster) -> None:
    soon = NOON + 10 * SECOND
    schedule = await planned(cluster, await added(cluster), NOON, soon, NOON + MINUTE)
    called = (await cluster.held(due_in=60))[0].key
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    fetched = {job.due_us for job in (await cluster.claim(bucket, window=15)).jobs}
    everything = await cluster.store.list_jobs(JobQuery())
    so_far = await cluster.store.list_jobs(JobQuery(not_ahead_of_us=NOON))
    then = await cluster.store.list_jobs(JobQuery(not_ahead_of_us=soon))
    assert fetched == {NOON, soon}
    assert len(everything.jobs) == 4
    assert {job.key for job in so_far.jobs} == {called, run(schedule, NOON).job.key}
    assert {job.key for job in then.jobs} == {called, run(schedule, NOON).job.key, run(schedule, soon).job.key}


@case("success", "list_jobs")
async def test_one_that_was_put_off_after_its_moment_is_listed(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON)
    key = run(schedule, NOON).job.key
    assert await cluster.store.reschedule(key, NOON + MINUTE)
    so_far = await cluster.store.list_jobs(JobQuery(not_ahead_of_us=NOON))
    assert [job.key for job in so_far.jobs] == [key]
