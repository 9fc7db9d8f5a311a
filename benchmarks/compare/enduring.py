"""Our worker under what lasts: a large backlog, a long open transaction, many waiting clients."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import psycopg
from compare import machine, races
from compare.contestants import OURS
from compare.servers import Servers
from compare.stage import Stage, Worker
from peers import slots

Figures = dict[str, Any]
SMALL, LARGE = 10_000, 1_000_000


def backlog(servers: Servers) -> Figures:
    """Drain rates with few and with many waiting jobs: two lanes, three priorities, 30 % of them due in ten minutes."""
    small = []
    for _ in range(5):
        with Stage(servers, OURS) as stage:
            small.append(_drained(stage, SMALL)["per_s"])
    with Stage(servers, OURS) as stage:
        large = _drained(stage, LARGE)
    return {
        "small_per_s": median(small), "large_per_s": large["per_s"], "large_of_small": large["per_s"] / median(small),
        "large_last_of_second_tenth": large["tenths_per_s"][-1] / large["tenths_per_s"][1],
        "large": large, "small_rounds": small,
    }  # fmt: skip


def _drained(stage: Stage, count: int) -> Figures:
    """Rate over all that is due, and over each tenth of it."""
    ready = stage.command("backlog", count)["ready"]
    with stage.worker() as worker:
        first, last, marks = _watched(stage, worker, ready)
    pace = [
        (runs - earlier_runs) / (moment - earlier)
        for (earlier, earlier_runs), (moment, runs) in itertools.pairwise(marks)
        if moment > earlier
    ]
    return {"ready": ready, "per_s": ready / (last - first), "seconds": last - first, "tenths_per_s": pace}


def _watched(stage: Stage, worker: Worker, count: int) -> tuple[float, float, list[tuple[float, int]]]:
    """As `Stage.await_runs`, with the moment at which each tenth had started."""
    marks: list[tuple[float, int]] = []
    while True:
        runs, first, last = slots.totals(stage.slots)
        if runs and (not marks or runs >= marks[-1][1] + count // 10 or runs >= count):
            marks.append((last, runs))
        if runs >= count:
            return first, last, marks
        worker.check()
        time.sleep(0.002)


def steady(servers: Servers, *, rate: int = 5000, seconds: int = 60) -> Figures:
    """Start latency of a steady load beside a transaction that is held open, its last sixth against its first."""
    with Stage(servers, OURS) as stage, stage.worker() as worker:
        stage.command("one", 2)
        stage.await_runs(worker, 2)
        with _held_open(servers.postgres.dsn(stage.database)):
            before, begun = machine.used([worker.pid]), time.monotonic()
            sent = stage.command("load", rate, seconds)
            stage.await_runs(worker, sent["sent"] + 3)
            share = (machine.used([worker.pid]) - before) / (time.monotonic() - begun)
        waited = slots.in_order(stage.slots)
        size = len(waited) // 6
        sixths = [races.spread(sorted(waited[part * size : (part + 1) * size])) for part in range(6)]
        with stage.rows() as query:
            dead = query("SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables")[0][0]
    return {
        "rate": rate, "sent_per_s": sent["per_s"],
        "first_p99_ms": sixths[0]["p99_ms"], "last_p99_ms": sixths[-1]["p99_ms"],
        "last_of_first": sixths[-1]["p99_ms"] / sixths[0]["p99_ms"], "sixths": sixths, "worker_cores": share,
        "dead_rows_at_end": dead,
    }  # fmt: skip


@contextlib.contextmanager
def _held_open(address: str) -> Iterator[None]:
    """A transaction with a snapshot and an id of its own: no vacuum can remove what is deleted after its begin."""
    with psycopg.connect(address) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT txid_current(), count(*) FROM pg_class")
        yield
        connection.rollback()


def answers(servers: Servers) -> Figures:
    """`delay().get()` one after the other, and what 1,000 waiters cost the database."""
    with Stage(servers, OURS) as stage:
        with stage.worker() as worker:
            stage.command("one", 2)
            stage.await_runs(worker, 2)
            took = races.spread(stage.command("answers", 500))
        waiting = stage.command("waiting", 1000, 10)
    return {f"answer_{name}": value for name, value in took.items()} | {
        "waiters": 1000,
        "statements_per_s": waiting["statements_per_s"],
    }
