"""Plans of workers, the archive, and several agents: what is joined, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobmaster import Agent, ConfigurationError, JobMaster, JobStatus, Priority, Worker
from jobmaster.model.states import WorkerMode
from jobmaster.runtime import archive_of, open_connections, plan_workers, tuning_of, unserved_lanes

pytestmark = pytest.mark.backend("sqlite")


def app_with(tmp_path: Path, *lanes: str, **settings: Any) -> JobMaster:
    jm = JobMaster("plans", master=f"sqlite:///{tmp_path}/master.db", **settings)
    for lane in lanes:
        jm.task(name=f"in-{lane or 'default'}", lane=lane)(lambda: None)
    return jm


def agents(tmp_path: Path, *names: str) -> list[Agent]:
    return [Agent(name, f"sqlite:///{tmp_path}/{name}.db") for name in names]


def test_without_declared_workers_one_serves_the_default_lane_and_every_lane_of_a_task(tmp_path: Path) -> None:
    jm = app_with(tmp_path, "mail", "bulk")
    (plan,) = plan_workers(jm, identity="host.1")

    assert (plan.name, plan.agent, plan.lanes, plan.slots) == ("host.1", "standalone", ("", "bulk", "mail"), 20)
    assert unserved_lanes(jm, [plan]) == []


def test_with_agents_there_is_one_worker_for_each(tmp_path: Path) -> None:
    jm = app_with(tmp_path, "", agents=agents(tmp_path, "a", "b"))
    plans = plan_workers(jm, identity="host.1")

    assert [(plan.name, plan.agent) for plan in plans] == [("host.1.1", "a"), ("host.1.2", "b")]
    assert [plan.agent for plan in plan_workers(jm, agent="b", identity="host.1")] == ["b"]


def test_declared_workers_say_lanes_slots_modes_and_buckets(tmp_path: Path) -> None:
    declared = [
        Worker(agent="a", lane="mail", name="mailer", parallelism=2.0, buckets={Priority.LOW: 0}),
        Worker(mode="coordinator", name="boss"),
    ]
    jm = app_with(tmp_path, "mail", "bulk", agents=agents(tmp_path, "a"), workers=declared, onboarding_window=5)
    mailer, boss = plan_workers(jm)

    assert (mailer.name, mailer.lanes, mailer.slots, mailer.buckets[2]) == ("mailer", ("mail",), 40, 0)
    assert boss.mode == "COORDINATOR"
    assert unserved_lanes(jm, [mailer, boss]) == ["bulk"]
    tuning = tuning_of(jm.settings, mailer)
    assert (tuning.slots, tuning.onboarding_window, tuning.mode) == (40, 5.0, WorkerMode.FULL)


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ((), [("a", ("mail",)), ("a", ("bulk", "")), ("b", ("", "bulk", "mail")), ("a", ("", "bulk", "mail"))]),
        (("mail",), [("a", ("mail",)), ("b", ("mail",))]),
        (("", "mail"), [("a", ("mail",)), ("a", ("",)), ("b", ("", "mail"))]),
    ],
)
def test_lanes_select_declared_workers(
    tmp_path: Path, lanes: tuple[str, ...], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    declared = [
        Worker("a", "mail", parallelism=2.0),
        Worker("a", lanes=["bulk", "default"], concurrency=3),
        Worker("b"),
        Worker(mode="coordinator"),
    ]
    jm = app_with(tmp_path, "mail", "bulk", agents=agents(tmp_path, "a", "b"), workers=declared)
    plans = plan_workers(jm, lanes=lanes)

    assert [(plan.agent, plan.lanes) for plan in plans] == expected
    assert plans[0].slots == 40


def test_a_lane_that_no_declared_worker_has_goes_to_the_first(tmp_path: Path) -> None:
    jm = app_with(tmp_path, "mail", workers=[Worker(lane="mail"), Worker(lane="bulk", concurrency=3)])

    assert [plan.lanes for plan in plan_workers(jm, lanes=("new",))] == [("new",)]
    assert [(plan.lanes, plan.slots) for plan in plan_workers(jm, lanes=("bulk", "new"))] == [(("bulk", "new"), 3)]


def test_the_command_line_says_it_better(tmp_path: Path) -> None:
    jm = app_with(tmp_path, "mail")
    first, second = plan_workers(
        jm, lanes=("mail",), name="w", mode=WorkerMode.EXECUTION, pool="solo", engines=2, grace=3, once=True
    )

    assert (first.name, second.name) == ("w.1", "w.2")
    assert (first.lanes, first.mode, first.pool, first.slots, first.grace, first.once) == (
        ("mail",), "EXECUTION", "solo", 1, 3, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"agent": "x"}, "no agent 'x'"),
        ({"pool": "gevent"}, "no pool 'gevent'. Pools are threads"),
        ({"pool": "asyncio"}, "'in-mail' is not async"),
    ],
)
def test_plans_that_cannot_work(tmp_path: Path, options: Any, told: str) -> None:
    jm = app_with(tmp_path, "mail")
    with pytest.raises(ConfigurationError, match=told):
        plan_workers(jm, **options)


def test_an_archive_is_another_app_of_the_program_that_takes_no_work(tmp_path: Path) -> None:
    jm = JobMaster("source-1", master=f"sqlite:///{tmp_path}/source.db", archive_to="archive-1")
    with pytest.raises(ConfigurationError, match="no app of cluster 'archive-1'"):
        archive_of(jm)

    active = JobMaster("archive-1", master=f"sqlite:///{tmp_path}/archive.db")
    with pytest.raises(ConfigurationError, match="is active: jobs moved there could run again"):
        archive_of(jm)
    del active


def test_aged_jobs_move_into_the_archive_and_can_be_read_there(tmp_path: Path) -> None:
    archive = JobMaster("archive-2", master=f"sqlite:///{tmp_path}/archive.db", mode="archived")
    jm = JobMaster("source-2", master=f"sqlite:///{tmp_path}/source.db", archive_to="archive-2")

    @jm.task
    def hello(name: str) -> str:
        return name

    with jm:
        result = hello.delay("J")
        assert result.get(timeout=5) == "J"

    async def move() -> None:
        connections = await open_connections(jm.settings)
        master = archive_of(jm)
        assert master is not None
        records = await connections.store.aged(before_us=2**60, limit=10)
        safe = await master.import_aged(records)
        assert await connections.store.delete_final(safe) == 1
        await connections.close()

    asyncio.run(move())
    assert jm.jobs.get(result.id) is None
    info = archive.jobs.get(result.id)
    assert info is not None
    assert (info.status, info.result, info.args) == (JobStatus.SUCCEEDED, "J", ("J",))
    jm.close()
    archive.close()


def test_jobs_run_through_separate_agents(tmp_path: Path) -> None:
    jm = JobMaster(
        "split", master=f"sqlite:///{tmp_path}/master.db", agents=agents(tmp_path, "a", "b"),
        workers=[Worker(agent="a", name="on-a"), Worker(agent="b", name="on-b")],
    )  # fmt: skip

    @jm.task
    async def hello(number: int) -> int:
        return number

    early = hello.delay(-1)
    with jm:
        assert early.get(timeout=10) == -1, "without a bucket the master held it"
        results = [hello.delay(number) for number in range(30)]
        assert [result.get(timeout=10) for result in results] == list(range(30))
        ran_on = {info.worker for info in (jm.jobs.get(result.id) for result in results) if info}
        assert ran_on == {"on-a", "on-b"}
    jm.close()
