"""What is measured of every contestant in the same way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from compare import machine
from compare.contestants import Contestant
from compare.servers import Servers
from compare.stage import Stage
from peers import slots

Figures = dict[str, Any]


DISTURBED, TRIES = 0.3, 2
"""A drain during which other programs used more cores is taken again once; the less disturbed one counts."""


def least_disturbed(
    servers: Servers, contestant: Contestant, processes: int, *, environment: Mapping[str, str] | None = None,
    jobs: int | None = None, left_bucket: bool = False, verify: bool = False,
) -> Figures:  # fmt: skip
    """A drain on a database of its own, again while other programs work; `tries` tells of all of them."""
    tries: list[Figures] = []
    while not tries or (tries[-1]["elsewhere_cores"] > DISTURBED and len(tries) < TRIES):
        with Stage(servers, contestant, environment=environment) as stage:
            tries.append(drain(stage, processes, jobs=jobs, left_bucket=left_bucket, verify=verify))
    return min(tries, key=lambda one: one["elsewhere_cores"]) | {"tries": tries}


def drain(
    stage: Stage, processes: int, *, jobs: int | None = None, left_bucket: bool = False, verify: bool = False
) -> Figures:  # fmt: skip
    """Store jobs, then start the worker.

    `per_s` is the contestant's own best reading: between the first and the last start. `final_per_s` is the strict one,
    where its states are in a database: from the first start to the commit that makes the last row final.
    """
    count = jobs or stage.contestant.jobs
    if left_bucket:
        with stage.worker() as earlier:
            stage.command("one", 2)
            stage.await_runs(earlier, 2)
    stored = stage.command("bulk", count)["per_s"]
    if "postgres" in stage.contestant.needs:
        stage.servers.postgres.execute("CHECKPOINT")
    machine.await_quiet()
    earlier_jobs = 2 if left_bucket else 0
    with stage.worker(processes) as worker:
        stage.await_runs(worker, 1)
        meter = machine.Meter(servers=stage.servers.pids(), workers=[worker.pid])
        first, last = stage.await_runs(worker, count)
        final = stage.await_final(worker, count + earlier_jobs)
        cores = meter.read()
        memory = machine.memory_mb([worker.pid])
    figures: Figures = {
        "jobs": count, "per_s": (count - 1) / (last - first), "bulk_per_s": stored, "start_s": first - worker.begun,
        "rss_mb": sum(part["rss"] for part in memory), "pss_mb": sum(part["pss"] for part in memory),
        "processes_rss_mb": [part["rss"] for part in memory],
        "server_cpu_us": cores.servers_s / count * 1e6, "worker_cpu_us": cores.workers_s / count * 1e6,
        "elsewhere_cores": cores.elsewhere_s / cores.wall_s,
    }  # fmt: skip
    if final is not None:
        figures["final_per_s"] = count / (final - first)
    if verify:
        figures["verified"] = stage.command("verify", count + earlier_jobs)
    return figures


def enqueue(stage: Stage, count: int = 2000) -> Figures:
    """The ordinary call, one after the other, no worker running."""
    machine.await_quiet()
    return {"one_per_s": stage.command("one", count)["per_s"]}


def latency(stage: Stage, *, rate: int = 50, seconds: int = 10) -> Figures:
    """From before the enqueueing call to the first line of the job, one warm worker; milliseconds."""
    with stage.worker(1, environment=stage.contestant.for_latency) as worker:
        stage.command("one", 2)
        stage.await_runs(worker, 2)
        time.sleep(1)
        count = stage.command("pace", rate, seconds)["count"]
        stage.await_runs(worker, 2 + count + rate)
        return spread(slots.waits(stage.slots))


def spread(seconds: list[float]) -> Figures:
    """p50, p95, p99 and the longest, in milliseconds, of sorted seconds."""
    return {
        "p50_ms": share(seconds, 0.5) * 1e3, "p95_ms": share(seconds, 0.95) * 1e3,
        "p99_ms": share(seconds, 0.99) * 1e3, "max_ms": seconds[-1] * 1e3, "samples": len(seconds),
    }  # fmt: skip


def share(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
