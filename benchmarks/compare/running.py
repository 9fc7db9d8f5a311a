"""Our worker: pools, several engines, start, rest, memory."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from compare import machine, races
from compare.contestants import OURS, OURS_SQLITE
from compare.servers import Servers
from compare.stage import Stage
from peers import slots

ROUNDS = 3
LONG = 200_000
FEW, SOME, MANY = 1_000, 100_000, 1_000_000
"""Jobs after which memory is read."""
Figures = dict[str, Any]

SYNC = {"BENCH_TASK": "sync"}
KINDS: dict[str, dict[str, str]] = {
    "async": {},
    "threads": {**SYNC, "BENCH_POOL": "threads"},
    "processes": {**SYNC, "BENCH_POOL": "processes"},
    "suspending": {"BENCH_TASK": "suspending"},
    "at_most_once": {"BENCH_TASK": "at_most_once"},
}


def pools(servers: Servers) -> Figures:
    """Drains by kind of task, in turn; every row read back once.

    Async, sync in threads, sync in processes, async that waits once for the loop, and async that may run at most once.
    """
    taken: dict[str, list[float]] = {}
    verified: Figures = {}
    for turn in range(ROUNDS):
        for kind, environment in KINDS.items():
            drained = races.least_disturbed(servers, OURS, 1, environment=environment, verify=turn == 0)
            taken.setdefault(kind, []).append(drained["final_per_s"])
            verified.setdefault(kind, drained.get("verified"))
    ratios = {
        f"{kind}_of_async": median(a / b for a, b in zip(taken[kind], taken["async"], strict=True))
        for kind in KINDS
        if kind != "async"
    }
    return (
        {f"{kind}_per_s": median(values) for kind, values in taken.items()}
        | ratios
        | {"verified": verified, "rounds": taken}
    )


def left_bucket(servers: Servers) -> Figures:
    """Drains in a bucket that the producer made and in one that a worker left, one and two engines, in turn."""
    rounds: dict[str, list[Figures]] = {}
    for turn in range(ROUNDS):
        for engines in (1, 2):
            for left in (False, True):
                drained = races.least_disturbed(servers, OURS, engines, left_bucket=left, verify=turn == 0)
                rounds.setdefault(f"{'left' if left else 'fresh'}_{engines}", []).append(drained)
    found: Figures = {}
    for name, drains in rounds.items():
        for field in ("final_per_s", "server_cpu_us", "worker_cpu_us"):
            found[f"{name}_{field}"] = median(drained[field] for drained in drains)
        found[f"{name}_verified"] = drains[0]["verified"]
    return found | {"rounds": rounds}


def engines(servers: Servers) -> Figures:
    """Drains that last, 200,000 jobs, by one and by two engines in turn, and who used how much of the processors."""
    rounds: dict[str, list[Figures]] = {}
    for _ in range(ROUNDS):
        for count in (1, 2):
            drained = races.least_disturbed(servers, OURS, count, jobs=LONG)
            rate = drained["final_per_s"] / 1e6
            cores = {f"{part}_cores": drained[f"{part}_cpu_us"] * rate for part in ("server", "worker")}
            rounds.setdefault(f"engines_{count}", []).append(drained | cores)
    fields = ("final_per_s", "server_cpu_us", "worker_cpu_us", "server_cores", "worker_cores", "elsewhere_cores")
    found: Figures = {
        f"{name}_{field}": median(drained[field] for drained in drains)
        for name, drains in rounds.items()
        for field in fields
    }
    pairs = zip(rounds["engines_2"], rounds["engines_1"], strict=True)
    found["two_of_one"] = median(two["final_per_s"] / one["final_per_s"] for two, one in pairs)
    return found | {"rounds": rounds}


def sqlite(servers: Servers) -> Figures:
    """Drains of one file by one engine, in turn async and threads, and latency at 50 jobs a second."""
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for kind in ("async", "threads"):
            drained = races.least_disturbed(servers, OURS_SQLITE, 1, environment=KINDS[kind])
            taken.setdefault(kind, []).append(drained["final_per_s"])
    with Stage(servers, OURS_SQLITE) as stage:
        waited = races.latency(stage)
    return {f"{kind}_per_s": median(values) for kind, values in taken.items()} | waited | {"rounds": taken}


def hand_over(servers: Servers) -> Figures:
    """20,000 jobs of 5 ms in one bucket: one worker alone, then one that a second joins at its first job."""
    count = 20_000
    with Stage(servers, OURS) as stage:
        stage.command("slow", count)
        with stage.worker() as worker:
            first, last = stage.await_runs(worker, count)
        alone = last - first
    with Stage(servers, OURS) as stage:
        stage.command("slow", count)
        with stage.worker() as worker:
            first, _ = stage.await_runs(worker, 1)
            with stage.second_worker():
                _, last = stage.await_runs(worker, count)
        together = last - first
    return {"alone_s": alone, "together_s": together, "together_of_alone": together / alone}


def start(servers: Servers) -> Figures:
    """From the start of the command to the first line of the first job, the schema in place, a job waiting."""
    taken = []
    with Stage(servers, OURS) as stage:
        for _ in range(7):
            stage.command("one", 1)
            with stage.worker() as worker:
                first, _ = stage.await_runs(worker, 1)
                taken.append(first - worker.begun)
    return {"median_s": median(taken), "longest_s": max(taken), "rounds": taken}


def idle(servers: Servers) -> Figures:
    """Processor use of the whole tree over 20 s without jobs, after some jobs."""
    with Stage(servers, OURS) as stage, stage.worker() as worker:
        stage.command("one", 20)
        stage.await_runs(worker, 20)
        time.sleep(5)
        before, server, begun = machine.used([worker.pid]), machine.used(servers.pids()), time.monotonic()
        time.sleep(20)
        wall = time.monotonic() - begun
        return {
            "worker_percent": (machine.used([worker.pid]) - before) / wall * 100,
            "server_percent": (machine.used(servers.pids()) - server) / wall * 100,
        }


def memory(servers: Servers) -> Figures:
    """RSS of supervisor and engine at rest after 100,000 and after 1,000,000 jobs."""
    found: Figures = {}
    with Stage(servers, OURS) as stage, stage.worker() as worker:
        done = 0
        for total in FEW, SOME, MANY:
            stage.command("many", total - done)
            stage.await_runs(worker, total)
            done = total
            time.sleep(3)
            parts = machine.memory_mb([worker.pid])
            found[f"supervisor_mb_after_{total}"] = parts[0]["rss"]
            found[f"engine_mb_after_{total}"] = max(part["rss"] for part in parts[1:])
    found["growth_mb"] = found[f"engine_mb_after_{MANY}"] - found[f"engine_mb_after_{SOME}"]
    return found


def lateness(servers: Servers) -> Figures:
    """Start latency at 50 jobs a second for 20 s, and how late jobs with `delay=2` start."""
    with Stage(servers, OURS) as stage:
        found = races.latency(stage, seconds=20)
    with Stage(servers, OURS) as stage, stage.worker() as worker:
        count = stage.command("due", 40, 2)["count"]
        stage.await_runs(worker, count + 1)
        late = slots.waits(stage.slots)
    return found | {
        "late_p50_ms": races.share(late, 0.5) * 1e3,
        "late_max_ms": late[-1] * 1e3,
        "early_ms": max(0.0, -late[0]) * 1e3,
    }
