"""Schedules of the code: stored at the start, kept while somebody has them, retired when nobody has."""

from __future__ import annotations

import asyncio

import msgspec

from jobmaster.model.schedule import ScheduleKind, Trigger
from jobmaster.ports.schedules import ScheduleQuery
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import (
    ACTIVE,
    CANCELED,
    EVERY_HOUR,
    INACTIVE,
    LOST,
    MINUTE,
    WHOLE,
    added,
    apply,
    changed,
    due,
    kept,
    known,
    moments,
    plan_of,
    planned,
    run,
    static,
)


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


async def test_a_worker_that_has_it_in_its_code_mends_a_parked_one(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    assert await apply(cluster, plan_of(first, error="no such language", new_cursor_us=NOON)) == [True]
    assert await kept(cluster, first) == []
    assert await due(cluster) == []
    (mended,) = await cluster.store.ensure_schedules([static()])
    assert (mended.error, mended.version, mended.cursor_us, mended.plan_at_us) == ("", 1, NOON, NOON)
    assert await due(cluster) == ["report"]


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
    keeps = [store.keep_schedules(wanted, lost_us=LOST) for store in stores]
    answers = await asyncio.gather(
        *(store.ensure_schedules(order) for store, order in zip(stores, orders, strict=True)), *keeps
    )
    assert all({*lacking} <= {one.key for one in wanted} for lacking in answers[4:])
    assert {one.version for answer in answers[:4] for one in answer} == {1}
    page = await cluster.store.list_schedules(ScheduleQuery(kind=ScheduleKind.STATIC))
    assert [one.name for one in page.schedules] == ["one", "three", "two"]


@case("success", "keep_schedules", "expire_schedules")
async def test_what_no_code_has_any_more_becomes_inactive_and_comes_back_without_a_storm(cluster: Cluster) -> None:
    (first, other) = await cluster.store.ensure_schedules([static(), static("other")])
    ahead = await planned(cluster, first, NOON + 3 * 3600 * SECOND)
    cluster.later(3599)
    assert await kept(cluster, other, static("nobody")) == ["nobody"]
    cluster.later(2)
    assert await cluster.store.expire_schedules(idle_us=3600 * SECOND, limit=10) == [first.key]
    gone = await known(cluster, first)
    assert (gone.status, gone.ended_us, gone.plan_at_us) == (INACTIVE, cluster.now_us, None)
    assert await moments(cluster, first) == []
    assert (await known(cluster, other)).status is ACTIVE
    cluster.later(3600)
    assert await kept(cluster, first) == []
    back = await known(cluster, first)
    assert (back.status, back.since_us, back.cursor_us, back.ended_us) == (ACTIVE, cluster.now_us, None, None)
    assert back.version > ahead.version
    assert "report" in await due(cluster)


async def test_what_somebody_kept_lately_is_not_written_again(cluster: Cluster) -> None:
    (first, second) = await cluster.store.ensure_schedules([static("one"), static("two")])
    cluster.later(40)
    both = (first, second)
    assert await kept(cluster, *both, fresh_us=45 * SECOND) == []
    assert (await known(cluster, first)).ensured_us == NOON
    assert await kept(cluster, first) == []
    cluster.later(10)
    assert await kept(cluster, *both, fresh_us=45 * SECOND) == []
    assert [(await known(cluster, one)).ensured_us - NOON for one in (first, second)] == [40 * SECOND, 50 * SECOND]
    await cluster.store.expire_schedules(idle_us=0, limit=10)
    assert await kept(cluster, *both, fresh_us=45 * SECOND) == []
    assert (await known(cluster, first)).status is ACTIVE, "what sleeps is woken in any case"


@case("repeat", "keep_schedules", "expire_schedules")
async def test_what_is_inactive_already_is_not_told_again(cluster: Cluster) -> None:
    (first,) = await cluster.store.ensure_schedules([static()])
    cluster.later(10)
    assert await cluster.store.expire_schedules(idle_us=5 * SECOND, limit=10) == [first.key]
    assert await cluster.store.expire_schedules(idle_us=5 * SECOND, limit=10) == []
    (back,) = await cluster.store.ensure_schedules([static()])
    assert (back.status, back.since_us, back.cursor_us) == (ACTIVE, cluster.now_us, None)
    assert await kept(cluster, first) == await kept(cluster, first) == []
    assert await known(cluster, first) == back


@case("conflict", "keep_schedules", "expire_schedules")
async def test_only_static_ones_are_kept_and_expire(cluster: Cluster) -> None:
    dynamic = await added(cluster, "dynamic")
    (paused, canceled) = await cluster.store.ensure_schedules([static("paused"), static("canceled")])
    await changed(cluster, paused, paused=True)
    await changed(cluster, canceled, status=CANCELED)
    cluster.later(10)
    assert await kept(cluster, dynamic) == []
    assert (await known(cluster, dynamic)).ensured_us == 0
    assert await cluster.store.expire_schedules(idle_us=SECOND, limit=10) == [paused.key]
    assert await kept(cluster, paused, canceled) == []
    assert (await known(cluster, canceled)).status is CANCELED
    back = await known(cluster, paused)
    assert (back.status, back.paused, back.plan_at_us) == (ACTIVE, True, None)


async def test_the_release_that_is_left_has_its_definition_again_whichever_started_last(cluster: Cluster) -> None:
    old, new = static(template=b"old"), static(template=b"new")
    for release in (old, new, old):  # an old worker came back during the rollout
        await cluster.store.ensure_schedules([release])
    at = NOON
    for _ in range(3):
        cluster.later(60)
        assert (await kept(cluster, new), await kept(cluster, old)) == ([], []), "both releases live"
        at += 60 * SECOND
        assert (await known(cluster, old)).ensured_us == at
    for lacking in ([], [], ["report"]):
        cluster.later(60)
        assert await kept(cluster, new, fresh_us=45 * SECOND) == lacking
    assert (await known(cluster, old)).ensured_us == at, "nobody has the old one any more"
    (after,) = await cluster.store.ensure_schedules([new])
    assert (after.template, after.status) == (b"new", ACTIVE)
    assert await kept(cluster, new) == []


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
