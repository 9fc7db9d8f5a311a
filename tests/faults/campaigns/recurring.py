"""The recurring acceptance runs, for real: every 5 s for 60 s, every 10 s for 120 s, every minute for 300 s.

Of each: as many jobs as expected within one, a mean interval within 2 %, every job of its schedule, none twice, none
left over in the past, every executed one stored. All settings are the defaults.
"""

from __future__ import annotations

import itertools
import statistics
import time
from typing import NamedTuple

from tests.faults.campaigns.setting import Campaign, arguments, campaign, publish, spread
from tests.faults.real_cluster import SUCCEEDED
from tests.faults.ticking import SECOND, add_ticks, occurrences, order, schedule_row


class Case(NamedTuple):
    """A schedule's name, its interval, for how long it is there, and how many jobs that makes."""

    name: str
    period: float
    lasts: float
    expected: int


CASES = (Case("fives", 5, 60, 12), Case("tens", 10, 120, 12), Case("minutes", 60, 300, 5))


def main() -> None:
    given = arguments(__doc__ or "", number=1)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        cluster.start_worker("-c", "8", name="w")
        cluster.produce("app.work_async.delay().get(timeout=60)")
        time.sleep(15)
        told = []
        for case in CASES:
            add_ticks(cluster, [case.name], period=case.period, misfire="once")
        ids = {case.name: order(cluster, f'print(schedules.get("{case.name}").id)')[0] for case in CASES}
        begun = {case.name: schedule_row(cluster, case.name, "since_us") / SECOND for case in CASES}
        for case in CASES:
            time.sleep(max(0.0, begun[case.name] + case.lasts - time.time()))
            order(cluster, f'assert schedules.cancel("{ids[case.name]}")')
            told.append((case, accepted(trial, case)))
            trial.tell(f"every {case.period:.0f} s for {case.lasts:.0f} s: {told[-1][1][0]} jobs")
        publish(
            "recurring",
            {
                "store": trial.store,
                "passed": True,
                **{
                    case.name: {"jobs": jobs, "interval": interval, "late": late}
                    for case, (jobs, interval, late) in told
                },
            },
            targets={},
        )


def accepted(trial: Campaign, case: Case) -> tuple[int, float, dict[str, float]]:
    """Judge one run: its jobs, the mean interval of their starts, and how late they were."""
    cluster = trial.cluster
    time.sleep(2.0)
    moments = occurrences(cluster, case.name)
    statuses = cluster.statuses()
    ran = {at: job for at, job in moments.items() if statuses[job][0] == SUCCEEDED}
    due = [job for at, job in moments.items() if at / SECOND < time.time() and not has_ended(statuses[job][0])]
    starts = {line.job: line.at for line in cluster.lines() if line.event == "start" and line.job in ran.values()}
    count = sum(line.event == "start" and line.job in moments.values() for line in cluster.lines())
    interval = statistics.mean(later - earlier for earlier, later in itertools.pairwise(sorted(starts.values())))
    assert abs(count - case.expected) <= 1, f"{case}: {count} jobs"
    assert len(starts) == count == len(ran), f"{case}: {count} starts of {len(starts)} jobs, {len(ran)} succeeded"
    assert abs(interval / case.period - 1) <= 0.02, f"{case}: every {interval} s"
    assert not due, f"{case}: due and not ended: {due}"
    late = spread([starts[job] - at / SECOND for at, job in ran.items()])
    return count, round(interval, 4), late


def has_ended(status: int) -> bool:
    """Succeeded, failed or cancelled; what was Queued in a worker's memory is cancelled there in its own time."""
    return status in {5, 6, 7, 8}


if __name__ == "__main__":
    main()
