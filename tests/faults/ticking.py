"""Recurring schedules on a real cluster: what their occurrences should be, what they are, and how late they ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.faults.real_cluster import SUCCEEDED, wait_for

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.faults.real_cluster import RealCluster

SECOND = 1_000_000

ADD = """
from datetime import timedelta
for name in {names!r}:
    app.jm.schedules.add(app.{task}, timedelta(seconds={period}), name=name, **{options!r})
"""
RULES = {"misfire": "all", "misfire_limit": 900}
"""Nothing that was missed is left out: what does not run is lost."""


class Ticked(NamedTuple):
    """What became of one schedule's occurrences. Moments are microseconds, `late` is seconds from each to its start."""

    expected: int
    missed: list[int]
    doubled: list[int]
    jobs: dict[int, str]
    late: list[float]


def plan_shortly(cluster: RealCluster) -> None:
    """Occurrences become jobs ten seconds before they come, so that planners have something to do every five."""
    cluster.environment["JOBMASTER_TRANSIENT_THRESHOLD"] = "10"


def add_ticks(
    cluster: RealCluster, names: Sequence[str], *, period: float = 1, task: str = "work_async", **options: object
) -> None:
    """One schedule of each name, every so many seconds; without a policy of its own nothing that was missed is lost."""
    options = options if "misfire" in options else RULES | options
    cluster.produce(ADD.format(names=list(names), task=task, period=period, options=options))


def order(cluster: RealCluster, program: str) -> list[str]:
    """What somebody's program does with `schedules`; what it prints."""
    return cluster.produce(f"schedules = app.jm.schedules\n{program}")


def schedule_row(cluster: RealCluster, name: str, column: str) -> int:
    """A number of the schedule's row, -1 for NULL."""
    ((_, value),) = cluster.place.rows(f"SELECT '', coalesce({column}, -1) FROM jm_schedule WHERE name = '{name}'")
    return int(value)


def occurrences(cluster: RealCluster, name: str) -> dict[int, str]:
    """Moments and jobs that there are."""
    found = cluster.place.rows(
        "SELECT job_id, at_us FROM jm_occurrence WHERE schedule = "
        f"(SELECT id FROM jm_schedule WHERE name = '{name}') ORDER BY at_us"
    )
    return {at: job for job, at in found}


def until_covered(cluster: RealCluster, names: Sequence[str], until_us: int, *, timeout: float = 30) -> None:
    """Wait until some planner has decided on everything up to that moment."""
    wait_for(
        lambda: all(schedule_row(cluster, name, "cursor_us") >= until_us for name in names),
        timeout=timeout,
        what=cluster.state,
    )


def ticked(cluster: RealCluster, name: str, until_us: int, *, period: float = 1) -> Ticked:
    """Compare what there is up to that moment with an interval's series; the jobs must have ended."""
    step = round(period * SECOND)
    since_us = schedule_row(cluster, name, "since_us")
    expected = set(range(since_us + step, until_us + 1, step))
    there = {at: job for at, job in occurrences(cluster, name).items() if at <= until_us}
    first: dict[str, float] = {}
    for line in cluster.lines():
        if line.event == "start":
            first.setdefault(line.job, line.at)
    return Ticked(
        expected=len(expected),
        missed=sorted(expected - there.keys()),
        doubled=sorted(there.keys() - expected),
        jobs=there,
        late=[first[job] - at / SECOND for at, job in there.items() if job in first],
    )


def judge_ticks(
    cluster: RealCluster,
    names: Sequence[str],
    until_us: int,
    *,
    period: float = 1,
    statuses: Collection[int] = frozenset({SUCCEEDED}),
    timeout: float = 30,
) -> list[float]:
    """No occurrence up to that moment is missed or doubled, and each ran to its end; how late they started."""
    until_covered(cluster, names, until_us, timeout=timeout)
    seen = [ticked(cluster, name, until_us, period=period) for name in names]
    assert not any(one.missed for one in seen), [one.missed for one in seen]
    assert not any(one.doubled for one in seen), [one.doubled for one in seen]
    cluster.judge([job for one in seen for job in one.jobs.values()], extra=None, statuses=statuses, timeout=timeout)
    return sorted(seconds for name in names for seconds in ticked(cluster, name, until_us, period=period).late)
