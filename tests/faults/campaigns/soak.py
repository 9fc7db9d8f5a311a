"""Mixed load with random faults for a long time: memory, descriptors, connections and table sizes stay flat."""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections import defaultdict

import psutil

from tests.faults.campaigns.setting import Campaign, arguments, campaign, kill_engine, publish, spread
from tests.faults.real_cluster import Worker
from tests.faults.ticking import add_ticks, order

CALLS = (
    "(app.work_async if draw.random() < 0.7 else app.work).delay(seconds=draw.uniform(0, 0.2))",
    "app.held.delay() if draw.random() < 0.5 else app.only_once.delay()",
)
SCHEDULES = [f"tick-{number}" for number in range(10)]
"""One run a second of each."""
TABLES = (
    "jm_message",
    "jm_job",
    "jm_attempt",
    "jm_worker",
    "jm_bucket",
    "jm_blame",
    "jm_tombstone",
    "jm_occurrence",
)
EVERY = 10.0
"""Seconds between two looks."""


def main() -> None:
    given = arguments(__doc__ or "", number=30, rate=100.0)
    draw = random.Random(given.number)
    # The shortest retention there is, so that tables may be flat within the time of this program.
    with campaign(given.store, keep=given.keep, JOBMASTER_RETENTION="600") as trial:
        workers = [trial.cluster.start_worker("-c", "32", "--engines", "2", name=f"w{number}") for number in range(2)]
        for call in CALLS:
            trial.streams.start(rate=given.rate / 2, call=call)
        add_ticks(trial.cluster, SCHEDULES)
        samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
        begun = time.monotonic()
        strike_at = begun + 30
        while time.monotonic() - begun < given.number * 60:
            time.sleep(EVERY)
            minutes = (time.monotonic() - begun) / 60
            for name, value in looked_at(trial, workers).items():
                samples[name].append((minutes, value))
            if time.monotonic() >= strike_at:
                strike(trial, workers, draw)
                strike_at = time.monotonic() + draw.uniform(20, 60)
        trial.streams.enough()
        order(trial.cluster, "for schedule in schedules.list():\n    assert schedules.cancel(schedule.id)")
        told = trial.judge(allowed=(5, 7))
        publish(
            "soak",
            {**told, "minutes": given.number, "figures": {name: told_of(values) for name, values in samples.items()}},
            targets={},
        )


def strike(trial: Campaign, workers: list[Worker], draw: random.Random) -> None:
    at = draw.randrange(len(workers))
    worker = workers[at]
    kind = draw.choice(["engine", "freeze", "SIGTERM", "tree"])
    trial.struck[kind] += 1
    trial.tell(f"{kind}; so far {trial.struck.total()} faults")
    if kind == "engine":
        kill_engine(worker)
    elif kind == "freeze":
        processes = worker.tree()
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        time.sleep(draw.uniform(1, 14))
        for process in reversed(processes):
            process.send_signal(signal.SIGCONT)
    else:
        if kind == "tree":
            worker.kill_tree()
        else:
            assert worker.terminate() == 0, worker.text()
        workers[at] = trial.cluster.start_worker("-c", "32", "--engines", "2", name=f"w{at}")


def looked_at(trial: Campaign, workers: list[Worker]) -> dict[str, float]:
    """What must stay flat, now: the largest process of each kind, and the store's sizes."""
    found: dict[str, float] = {"supervisor_mb": 0, "engine_mb": 0, "supervisor_fds": 0, "engine_fds": 0}
    for worker in workers:
        for process in worker.tree():
            kind = "supervisor" if process.pid == worker.process.pid else "engine"
            try:
                found[f"{kind}_mb"] = max(found[f"{kind}_mb"], process.memory_info().rss / 1e6)
                found[f"{kind}_fds"] = max(found[f"{kind}_fds"], process.num_fds())
            except psutil.NoSuchProcess:
                continue
    for table in TABLES:
        found[f"{table}_rows"] = trial.count(f"SELECT count(*) FROM {table}")
    if trial.server is not None:
        found["connections"] = trial.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        found["database_mb"] = trial.count("SELECT pg_database_size(current_database())") / 1e6
    else:
        found["database_mb"] = sum(file.stat().st_size for file in trial.cluster.folder.glob("faults.db*")) / 1e6
    return found


def told_of(values: list[tuple[float, float]]) -> dict[str, object]:
    """The median of the first, second and last third, and the slope of the last two thirds per hour."""
    third = max(1, len(values) // 3)
    parts = [values[:third], values[third : 2 * third], values[2 * third :]]
    late = values[third:]
    slope = statistics.linear_regression([x for x, _ in late], [y for _, y in late]).slope if len(late) > 2 else 0.0
    medians = [round(statistics.median(y for _, y in part), 1) for part in parts if part]
    return {"medians": medians, "per_hour": round(slope * 60, 2), **spread([y for _, y in values])}


if __name__ == "__main__":
    main()
