"""Kill -9 of planners while one-second schedules run: half of the kills hit the only one, half one of two.

In the first half one worker coordinates and another one runs the jobs; in the second both do both. Every occurrence
must be there once and run to its end; how late they started is told. With the defaults, but for a horizon of ten
seconds, so that planners have something to do every five.
"""

from __future__ import annotations

import time

from tests.faults.campaigns.setting import Campaign, arguments, campaign, publish, spread
from tests.faults.real_cluster import Worker
from tests.faults.ticking import SECOND, add_ticks, judge_ticks, occurrences, plan_shortly

NAMES = [f"tick{number}" for number in range(5)]


def main() -> None:
    given = arguments(__doc__ or "", number=20, pause=5.0)
    with campaign(given.store, keep=given.keep) as trial:
        plan_shortly(trial.cluster)
        planner = trial.cluster.start_worker("--mode", "coordinator", name="planner")
        runner = trial.cluster.start_worker("--mode", "execution", "-c", "16", name="runner")
        add_ticks(trial.cluster, NAMES)
        for _ in range(given.number // 2):
            time.sleep(given.pause)
            kill(trial, planner, "only planner")
            planner = trial.cluster.start_worker("--mode", "coordinator", name="planner")
        alone = late(trial, now_us())  # while somebody runs what is due up to now
        planner.terminate()
        runner.terminate()
        workers = [trial.cluster.start_worker("-c", "16", name=f"w{number}") for number in range(2)]
        for strike in range(given.number - given.number // 2):
            time.sleep(given.pause)
            kill(trial, workers[strike % 2], "one of two workers")
            workers[strike % 2] = trial.cluster.start_worker("-c", "16", name=f"w{strike % 2}x{strike}")
        time.sleep(given.pause)
        until_us = now_us()
        everything = late(trial, until_us)
        publish(
            "schedules",
            {
                "store": trial.store,
                "struck": dict(trial.struck),
                "accepted": len(everything),
                "lost": 0,
                "doubled": 0,
                "missed": 0,
                "late_when_the_only_planner_was_killed": spread(alone),
                "late": spread(everything),
                "extra_runs": trial.cluster.score.extra_runs,
            },
            targets={},
        )


def kill(trial: Campaign, worker: Worker, kind: str) -> None:
    """SIGKILL for the whole tree, at some moment between two of its plans."""
    planned = max(occurrences(trial.cluster, NAMES[0]))
    trial.until(lambda: max(occurrences(trial.cluster, NAMES[0])) > planned, timeout=60, what="the next plan")
    worker.kill_tree()
    trial.struck[kind] += 1
    trial.tell(f"{trial.struck.total()} kills")


def late(trial: Campaign, until_us: int) -> list[float]:
    """Nothing missed, nothing doubled, all ended; seconds from each moment to its start."""
    return judge_ticks(trial.cluster, NAMES, until_us, timeout=120)


def now_us() -> int:
    """By this host's clock, which is the database's, too."""
    return time.time_ns() * SECOND // 1_000_000_000


if __name__ == "__main__":
    main()
