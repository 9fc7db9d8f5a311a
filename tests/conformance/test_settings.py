"""The clock, the cluster's settings, task definitions, and jobs that wait for their task."""

from __future__ import annotations

import asyncio

from jobmaster.model.definition import ClusterRecord, Definition
from jobmaster.model.states import JobStatus
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of


@case("success", "now_us")
@case("repeat", "now_us")
async def test_the_store_has_one_clock(cluster: Cluster) -> None:
    assert await cluster.store.now_us() == NOON
    cluster.later(2)
    assert await cluster.store.now_us() == NOON + 2 * SECOND
    assert await cluster.store.now_us() == NOON + 2 * SECOND


@case("race", "now_us")
@case("conflict", "now_us")
async def test_two_connections_read_the_same_clock(cluster: Cluster) -> None:
    other = await cluster.other()
    assert await asyncio.gather(cluster.store.now_us(), other.now_us()) == [NOON, NOON]


@case("success", "identity")
@case("repeat", "identity")
@case("race", "identity")
async def test_every_connection_says_the_same_of_which_database_this_is(cluster: Cluster) -> None:
    other = await cluster.other()
    first, second = await asyncio.gather(cluster.store.identity(), other.identity())
    assert first == second == await cluster.store.identity() != ""


@case("conflict", "identity")
async def test_what_is_written_does_not_change_which_database_this_is(cluster: Cluster) -> None:
    before = await cluster.store.identity()
    await cluster.store.save_cluster(ClusterRecord("shop", 1, b"1"))
    assert await cluster.store.identity() == before


@case("success", "load_cluster", "save_cluster")
async def test_settings_are_stored_and_read_back(cluster: Cluster) -> None:
    assert await cluster.store.load_cluster() is None
    assert await cluster.store.save_cluster(ClusterRecord("shop", 1, b'{"lease": 10}'))
    assert await cluster.store.load_cluster() == ClusterRecord("shop", 1, b'{"lease": 10}')
    assert await cluster.store.save_cluster(ClusterRecord("shop", 2, b"{}"))
    assert (await cluster.store.load_cluster()).version == 2


@case("conflict", "load_cluster", "save_cluster")
async def test_settings_that_were_changed_meanwhile_are_not_overwritten(cluster: Cluster) -> None:
    await cluster.store.save_cluster(ClusterRecord("shop", 1, b"1"))
    await cluster.store.save_cluster(ClusterRecord("shop", 2, b"2"))
    assert not await cluster.store.save_cluster(ClusterRecord("shop", 2, b"mine"))
    assert not await cluster.store.save_cluster(ClusterRecord("shop", 4, b"mine"))
    assert (await cluster.store.load_cluster()).settings == b"2"


@case("repeat", "load_cluster", "save_cluster")
async def test_a_repeated_save_says_no_and_changes_nothing(cluster: Cluster) -> None:
    record = ClusterRecord("shop", 1, b"1")
    assert await cluster.store.save_cluster(record)
    assert not await cluster.store.save_cluster(record)
    assert await cluster.store.load_cluster() == await cluster.store.load_cluster() == record


@case("race", "load_cluster", "save_cluster")
async def test_of_two_writers_of_the_first_settings_one_wins(cluster: Cluster) -> None:
    other = await cluster.other()
    saved = await asyncio.gather(
        cluster.store.save_cluster(ClusterRecord("shop", 1, b"mine")),
        other.save_cluster(ClusterRecord("shop", 1, b"theirs")),
    )
    assert sorted(saved) == [False, True]
    record = await other.load_cluster()
    assert record.settings == (b"mine" if saved[0] else b"theirs")


GREET = Definition("greet", "", 3, at_most_once=True, signature="(name: str)", source="shop.py:3")


@case("success", "definitions", "save_definitions")
async def test_definitions_are_stored_by_name(cluster: Cluster) -> None:
    pay = Definition("pay", "money", 5, defaults=b'{"timeout": 3}')
    await cluster.store.save_definitions([GREET, pay])
    assert await cluster.store.definitions() == [GREET, pay]
    assert await cluster.store.definitions(["pay"]) == [pay]


@case("conflict", "definitions", "save_definitions")
async def test_a_definition_of_the_same_name_is_replaced_and_others_stay(cluster: Cluster) -> None:
    await cluster.store.save_definitions([GREET, Definition("pay")])
    newer = Definition("greet", "hall", 4)
    await cluster.store.save_definitions([newer])
    assert await cluster.store.definitions() == [newer, Definition("pay")]
    assert await cluster.store.definitions(["nobody"]) == []


@case("repeat", "definitions", "save_definitions")
async def test_saving_definitions_again_changes_nothing(cluster: Cluster) -> None:
    await cluster.store.save_definitions([GREET])
    await cluster.store.save_definitions([GREET])
    assert await cluster.store.definitions() == await cluster.store.definitions() == [GREET]


@case("race", "definitions", "save_definitions")
async def test_two_workers_save_their_definitions_at_once(cluster: Cluster) -> None:
    other = await cluster.other()
    names = [f"task{number}" for number in range(20)]
    await asyncio.gather(
        cluster.store.save_definitions([Definition(name) for name in names]),
        other.save_definitions([Definition(name) for name in reversed(names)]),
    )
    assert [definition.name for definition in await cluster.store.definitions()] == sorted(names)


async def _unroutable(cluster: Cluster, task: str = "greet") -> bytes:
    bucket = await cluster.owned(f"worker-{task}")
    message = await cluster.message(bucket, task=task)
    unknown = outcome_of(message, JobStatus.HELD_ON_MASTER, reason="unroutable", started_us=None)
    await cluster.store.settle(bucket.fence, [unknown])
    return message.key


@case("success", "route")
async def test_a_job_without_a_task_waits_until_the_task_is_registered(cluster: Cluster) -> None:
    key = await _unroutable(cluster)
    assert (await cluster.row(key)).reason == "unroutable"
    bucket = await cluster.owned("second")
    assert (await cluster.claim(bucket)).jobs == []
    cluster.later(60)
    assert await cluster.store.route(["greet"]) == 1
    row = await cluster.row(key)
    assert (row.status, row.reason, row.due_us) == (JobStatus.HELD_ON_MASTER, "", cluster.now_us)
    bucket = await cluster.owned("third")
    assert [job.key for job in (await cluster.claim(bucket)).jobs] == [key]


@case("conflict", "route")
async def test_only_jobs_of_the_named_tasks_are_routed(cluster: Cluster) -> None:
    key = await _unroutable(cluster)
    await cluster.held(task="pay")
    await cluster.store.save_definitions([Definition("greet")])
    assert await cluster.store.route(["pay", "other"]) == 0
    assert await cluster.store.route([]) == 0
    assert (await cluster.row(key)).reason == "unroutable"


@case("repeat", "route")
async def test_routing_again_finds_nothing(cluster: Cluster) -> None:
    await _unroutable(cluster)
    assert await cluster.store.route(["greet"]) == 1
    assert await cluster.store.route(["greet"]) == 0


@case("race", "route")
async def test_two_workers_route_a_job_once(cluster: Cluster) -> None:
    await _unroutable(cluster)
    other = await cluster.other()
    assert sorted(await asyncio.gather(cluster.store.route(["greet"]), other.route(["greet"]))) == [0, 1]
