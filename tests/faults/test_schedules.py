"""Schedules on real workers that are killed, frozen and cut off; schedules that change while their jobs wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.real_cluster import RealCluster, wait_for
from tests.faults.score import DEFAULTS
from tests.faults.test_cut_connections import made
from tests.faults.ticking import (
    SECOND,
    add_ticks,
    judge_ticks,
    occurrences,
    order,
    plan_shortly,
    schedule_row,
    ticked,
    until_covered,
)
from tests.servers.fault_proxy import FaultProxy

KILLS = 8 if DEFAULTS else 2
CANCELLED = 8
DAYS_US = 3 * 86_400 * SECOND


PLANNED_LATE = """
SELECT '', s.name, count(*) FROM jm_occurrence o JOIN jm_schedule s ON s.id = o.schedule
WHERE o.at_us <= o.created_us GROUP BY s.name
"""


def planned_late(cluster: RealCluster) -> dict[str, int]:
    """Schedules' names, and how many occurrences became jobs after their moment."""
    return {name: count for _, name, count in cluster.place.rows(PLANNED_LATE)}


def now_us() -> int:
    return time.time_ns() // 1000


def more_ticks(cluster: RealCluster, count: int) -> None:
    """Wait for so many more runs."""
    seen = len(cluster.lines())
    wait_for(lambda: len(cluster.lines()) >= seen + 2 * count, what=cluster.state)


def alive_after(cluster: RealCluster, name: str, since_us: int) -> list[int]:
    """Moments of occurrences that were not cancelled."""
    statuses = cluster.statuses()
    found = occurrences(cluster, name).items()
    return [at for at, job in found if at > since_us and statuses.get(job, (0, ""))[0] != CANCELLED]


@pytest.mark.fault("S1", "S3")
def test_coordinators_that_are_killed_in_turn_miss_no_tick_and_double_none(cluster: RealCluster) -> None:
    """Two plan at once; now and then there is only one, and at the end a new one alone."""
    plan_shortly(cluster)
    workers = [cluster.start_worker("-c", "8", name=f"w{number}") for number in range(2)]
    add_ticks(cluster, ["a", "b", "c"])
    for kill in range(KILLS):
        more_ticks(cluster, 4)
        workers[kill % 2].kill_tree()
        if kill == KILLS - 1:
            workers[0].kill_tree()  # nobody is left
        workers[kill % 2] = cluster.start_worker("-c", "8", name=f"w{kill % 2}")
    more_ticks(cluster, 4)
    late = judge_ticks(cluster, ["a", "b", "c"], now_us())
    assert late[-1] < (100 if DEFAULTS else 30)


@pytest.mark.fault("S2")
def test_a_pause_after_its_only_planner_died_loses_nothing_of_what_came_before(cluster: RealCluster) -> None:
    """The planner has claimed the schedule, and dies before it has planned anything; nobody else is there."""
    plan_shortly(cluster)
    cluster.arm("plan_schedules.before=kill")
    planner = cluster.start_worker("--mode", "coordinator", name="planner")
    cluster.arm("")
    add_ticks(cluster, ["a"])
    wait_for(cluster.strikes, what=cluster.state)
    planner.kill_tree()
    begun_us = schedule_row(cluster, "a", "since_us")
    wait_for(lambda: now_us() > begun_us + 3 * SECOND, what=cluster.state)
    order(cluster, "schedules.pause('a')")
    paused_us = schedule_row(cluster, "a", "since_us")
    order(cluster, "schedules.resume('a'); schedules.pause('a')")
    there = {at: job for at, job in occurrences(cluster, "a").items() if at <= paused_us}
    assert sorted(there) == list(range(begun_us + SECOND, paused_us + 1, SECOND))
    assert len(there) >= 3
    cluster.start_worker("-c", "4", name="w")
    cluster.judge(there.values(), extra=None)


@pytest.mark.fault("S2")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_planner_that_dies_at_its_write_repeats_it_without_effect(cluster: RealCluster, moment: str) -> None:
    """Occurrences and cursor are one transaction: after it all is done, before it nothing."""
    plan_shortly(cluster)
    cluster.arm(f"plan_schedules.{moment}=kill")
    cluster.start_worker("-c", "4", name="w")
    add_ticks(cluster, ["a"])
    wait_for(cluster.strikes, what=cluster.state)
    more_ticks(cluster, 2)
    judge_ticks(cluster, ["a"], now_us())


@pytest.mark.fault("B7")
@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)  # a frozen writer of SQLite may have the file's lock
def test_a_coordinator_that_stood_still_and_goes_on_planning_doubles_nothing(cluster: RealCluster) -> None:
    """Frozen for longer than its lease, while the other one plans on."""
    plan_shortly(cluster)
    frozen = cluster.start_worker("-c", "8", name="frozen")
    cluster.start_worker("-c", "8", name="other")
    add_ticks(cluster, ["a", "b"])
    more_ticks(cluster, 2)
    frozen.freeze()
    planned = max(occurrences(cluster, "a"))
    try:
        wait_for(lambda: max(occurrences(cluster, "a")) > planned, what=cluster.state)
    finally:
        frozen.thaw()
    more_ticks(cluster, 4)
    judge_ticks(cluster, ["a", "b"], now_us())


class TestCutOff:
    @pytest.fixture
    def proxy(self, postgres_database: str) -> Iterator[FaultProxy]:
        with FaultProxy(postgres_database) as proxy:
            yield proxy

    @pytest.fixture
    def cluster(self, tmp_path: Path, postgres_database: str, proxy: FaultProxy) -> Iterator[RealCluster]:
        yield from made(tmp_path, postgres_database, proxy.dsn(postgres_database))

    @pytest.mark.fault("E8")
    @pytest.mark.backend("postgresql")
    def test_a_coordinator_that_is_cut_off_is_replaced_by_the_others_at_once(
        self, cluster: RealCluster, proxy: FaultProxy, postgres_database: str
    ) -> None:
        plan_shortly(cluster)
        cluster.start_worker("-c", "8", name="cut-off")
        behind_the_proxy = cluster.environment["FAULTS_MASTER"]
        cluster.environment["FAULTS_MASTER"] = postgres_database
        cluster.start_worker("-c", "8", name="other")
        assert behind_the_proxy != postgres_database
        add_ticks(cluster, ["a", "b"])
        more_ticks(cluster, 4)
        proxy.stall()
        cluster.struck("cut of a coordinator's line")
        planned = max(occurrences(cluster, "a"))
        wait_for(lambda: max(occurrences(cluster, "a")) > planned, what=cluster.state)
        more_ticks(cluster, 2)
        proxy.resume()
        more_ticks(cluster, 4)
        late = judge_ticks(cluster, ["a", "b"], now_us())
        assert late[-1] < 20


@pytest.mark.fault("S4")
def test_a_schedule_that_is_paused_edited_or_cancelled_while_its_jobs_wait_is_decided_once(
    cluster: RealCluster,
) -> None:
    """What was planned ahead goes, in memory of a worker or not; what comes next follows the new words alone."""
    plan_shortly(cluster)
    cluster.start_worker("-c", "8", name="w")
    add_ticks(cluster, ["paused", "edited", "cancelled", "raced"])
    more_ticks(cluster, 6)
    order(
        cluster,
        """
from datetime import timedelta
from concurrent.futures import ThreadPoolExecutor
schedules.pause("paused")
schedules.edit("edited", when=timedelta(seconds=2))
ended = schedules.get("cancelled").id
assert schedules.cancel(ended) and not schedules.cancel(ended)
def change(number):
    (schedules.pause if number % 2 else schedules.resume)("raced")
with ThreadPoolExecutor(4) as pool:
    list(pool.map(change, range(20)))
schedules.resume("raced")
""",
    )
    decided = now_us()
    more_ticks(cluster, 6)
    until = now_us() - SECOND
    until_covered(cluster, ["edited"], until)
    edited = ticked(cluster, "edited", until, period=2)
    assert not edited.missed
    for name in ("paused", "cancelled"):
        later = [job for at, job in occurrences(cluster, name).items() if at > decided]
        begun = {line.job for line in cluster.lines()}
        assert not begun & set(later), "nothing of it began"
        # What was in a worker's memory is Cancelled, too, in its own time.
        wait_for(lambda later=later: {cluster.statuses()[job][0] for job in later} <= {CANCELLED}, what=cluster.state)
    since = schedule_row(cluster, "raced", "since_us")
    after = alive_after(cluster, "raced", since)
    assert after == [since + number * SECOND for number in range(1, len(after) + 1)], "one series, of the last resume"
    order(cluster, 'schedules.resume("paused")')
    resumed = schedule_row(cluster, "paused", "since_us")
    wait_for(lambda: alive_after(cluster, "paused", resumed), what=cluster.state)
    assert alive_after(cluster, "paused", resumed)[0] == resumed + SECOND


@pytest.mark.fault("F8")
def test_after_three_days_off_each_policy_does_what_its_name_says(cluster: RealCluster) -> None:
    """One-second schedules of which 259,200 occurrences were missed."""
    plan_shortly(cluster)
    for policy, limit in (("skip", {}), ("once", {}), ("all", {"misfire_limit": 20})):
        add_ticks(cluster, [policy], misfire=policy, **limit)
    for table_moment in ("since_us", "created_us", "plan_at_us"):
        cluster.place.rows(f"UPDATE jm_schedule SET {table_moment} = {table_moment} - {DAYS_US} RETURNING id")
    cluster.start_worker("-c", "8", name="w")
    wait_for(lambda: planned_late(cluster).keys() >= {"once", "all"}, what=cluster.state)
    more_ticks(cluster, 10)
    late = planned_late(cluster)
    # One more of each where it came between the plan and its write.
    assert late.get("skip", 0) in (0, 1)
    assert late["once"] in (1, 2)
    assert late["all"] in (20, 21)
    for name in ("skip", "once", "all"):
        moments = list(occurrences(cluster, name))
        assert {later - earlier for earlier, later in pairwise(moments)} == {SECOND}, "the latest ones, without a gap"
        assert (moments[0] - schedule_row(cluster, name, "since_us")) % SECOND == 0, "in the schedule's own phase"
    ended = now_us() - 2 * SECOND
    ran = [job for name in ("skip", "once", "all") for at, job in occurrences(cluster, name).items() if at <= ended]
    cluster.judge(ran, extra=0)
