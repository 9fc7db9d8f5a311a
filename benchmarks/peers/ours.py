"""JobMaster itself, by its public API and its command line, with default settings.

BENCH_TASK is the kind of task (see ours_app.py); BENCH_POOL is where sync tasks run.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import threading
import time
from typing import Any

import psycopg
from driver import POSTGRES, Driver, Item, item, main
from ours_app import TASK, five_ms, jm, nothing, other_lane
from slots import ran

from jobmaster import JobStatus, ResultTimeout

CHUNK = 1000
STATEMENTS = (
    "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements"
    " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Ours(Driver):
    def close(self) -> None:
        jm.close()

    def reset(self) -> None:
        subprocess.run(["jobmaster", "-A", "ours_app", "db", "upgrade"], check=True, stdout=subprocess.DEVNULL)

    def one(self, job: Item) -> None:
        TASK.delay(**job)

    def bulk(self, jobs: list[Item]) -> None:
        jm.enqueue_many([TASK.job(**job) for job in jobs])

    def worker(self, processes: int) -> None:
        pool = os.environ.get("BENCH_POOL", "threads")
        command = ["jobmaster", "worker", "-A", "ours_app", "--engines", str(processes), "-P", pool, "-l", "warning"]
        os.execvp(command[0], command)

    def commands(self) -> dict[str, Any]:
        return {
            "threads": threads, "awaited": awaited, "many": many, "backlog": backlog, "slow": slow, "load": load,
            "answers": answers, "due": due, "waiting": waiting, "verify": verify,
        }  # fmt: skip


# -- enqueueing


def threads(number_of_threads: str, count: str) -> dict[str, float]:
    """`delay()` from several threads at once."""
    each = int(count) // int(number_of_threads)
    TASK.delay(**item(0))

    def run() -> None:
        for number in range(each):
            TASK.delay(**item(number))

    workers = [threading.Thread(target=run) for _ in range(int(number_of_threads))]
    begun = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"per_s": each * len(workers) / (time.monotonic() - begun)}


async def awaited(count: str) -> dict[str, float]:
    """`await adelay()`, one after the other."""
    await TASK.adelay(**item(0))
    begun = time.monotonic()
    for number in range(int(count)):
        await TASK.adelay(**item(number))
    return {"per_s": int(count) / (time.monotonic() - begun)}


def many(count: str) -> dict[str, float]:
    """`enqueue_many`, 1,000 jobs a call, from a plain thread."""
    begun = time.monotonic()
    for start in range(0, int(count), CHUNK):
        jm.enqueue_many([TASK.job(**item(number)) for number in range(start, min(int(count), start + CHUNK))])
    return {"per_s": int(count) / (time.monotonic() - begun)}


def backlog(count: str) -> dict[str, int]:
    """Jobs of two lanes and three priorities; 30 % of them are due in 590 s. How many are due now."""
    chance = random.Random(7)  # noqa: S311 - the same backlog in every run
    ready = 0
    for start in range(0, int(count), CHUNK):
        jobs = []
        for number in range(start, min(int(count), start + CHUNK)):
            task = nothing if chance.random() < 0.5 else other_lane
            later = chance.random() < 0.3
            ready += not later
            options = {"delay": 590} if later else {}
            jobs.append(task.options(priority=chance.choice((2, 3, 4)), **options).job(**item(number)))
        jm.enqueue_many(jobs)
    return {"ready": ready}


def slow(count: str) -> None:
    """Jobs of 5 ms."""
    for start in range(0, int(count), CHUNK):
        jm.enqueue_many([five_ms.job(number=number) for number in range(start, min(int(count), start + CHUNK))])


async def load(rate: str, seconds: str) -> dict[str, float]:
    """`rate` calls of `adelay` a second, begun in groups every 10 ms whether or not earlier ones have returned."""
    await TASK.adelay(**item(0))
    begun, sent, total = time.monotonic(), 0, int(float(rate) * float(seconds))
    async with asyncio.TaskGroup() as calls:
        while sent < total:
            allowed = min(total, int((time.monotonic() - begun) * float(rate)) + 1)
            for number in range(sent, allowed):
                calls.create_task(TASK.adelay(**item(number, time.monotonic())))
            sent = allowed
            await asyncio.sleep(0.01)
    return {"sent": sent, "per_s": sent / (time.monotonic() - begun)}


# -- waiting


def answers(count: str) -> list[float]:
    """Seconds that `delay().get()` took, one after the other, the shortest first."""
    TASK.delay(**item(0)).get(timeout=10)
    took = []
    for number in range(int(count)):
        begun = time.monotonic()
        TASK.delay(**item(number)).get(timeout=10)
        took.append(time.monotonic() - begun)
    return sorted(took)


def due(count: str, seconds: str) -> dict[str, int]:
    """Jobs with `delay=seconds`, one every 50 ms."""
    TASK.delay(**item(0))
    for number in range(int(count)):
        moment = time.monotonic() + float(seconds)
        TASK.options(delay=float(seconds)).delay(**item(number, moment))
        time.sleep(0.05)
    return {"count": int(count)}


async def waiting(count: str, seconds: str) -> dict[str, float]:
    """Statements a second that so many waiters of jobs that do not end cost the database."""
    results = await jm.aenqueue_many([TASK.job(**item(number)) for number in range(int(count))])

    async def wait(result: Any) -> None:
        try:
            await result.aget(timeout=float(seconds) + 3)
        except ResultTimeout:
            ran()

    with psycopg.connect(POSTGRES, autocommit=True) as connection:

        def calls() -> int:
            found = connection.execute(STATEMENTS).fetchone()
            return found[0] if found else 0

        async with asyncio.TaskGroup() as waiters:
            for result in results:
                waiters.create_task(wait(result))
            await asyncio.sleep(1)
            before = calls()
            await asyncio.sleep(float(seconds))
            after = calls()
    return {"statements_per_s": (after - before - 1) / float(seconds)}


# -- looking


def verify(count: str) -> dict[str, int]:
    """Read every job as people do, and count those that are complete: succeeded, attempt, times and worker known."""
    seen: set[str] = set()
    complete, after = 0, None
    while True:
        page = jm.jobs.list(limit=1000, after=after)
        for job in page.jobs:
            seen.add(job.id)
            times = job.started_at is not None and job.finished_at is not None
            complete += job.status is JobStatus.SUCCEEDED and job.attempts == 1 and times and job.worker is not None
        after = page.after
        if after is None:
            return {"expected": int(count), "found": len(seen), "complete": complete}


if __name__ == "__main__":
    main(Ours())
