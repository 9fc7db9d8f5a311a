"""Schedules are added once, whole, and found by key and name."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from jobmaster.errors import SerializationError
from jobmaster.model.schedule import Rule, ScheduleStatus
from jobmaster.ports.schedules import ScheduleQuery
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster
from tests.conformance.schedule_cases import ACTIVE, CANCELED, EVERY_HOUR, WHOLE, added, changed, due, made, planned


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
