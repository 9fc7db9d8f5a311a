"""What a call costs the program that makes it, beside the raw rate of one-row commits on the same database.

    .venv/bin/python benchmarks/producer_cost.py [--dsn postgresql://…] [--rounds 3] [--seconds 0.7]
        [--only delay_8,enqueue_many] [--profile delay_1] [--json FILE]

Without `--dsn` the database is an SQLite file in a temporary folder (`--folder` says where). Every round measures the
raw rate and each way to enqueue, one after the other; the table has the medians, the ratio to the raw rate, and the
processor time of this process per call (the client's share; for PostgreSQL the server's is not in it).
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from jobmaster import JobMaster

BULK = 1_000

Measured = tuple[float, float]
"""Calls a second, and microseconds of this process's processor time a call."""


class Bench:
    """An app on one database and the ways to enqueue into it."""

    def __init__(self, dsn: str | None, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.dsn = dsn
        self.seconds = seconds
        self.jm = JobMaster("producer-cost", master=dsn or f"sqlite:///{folder}/producer.db")

        @self.jm.task
        async def hello(name: str, number: int = 0) -> None: ...

        self.hello = hello
        self.ways: dict[str, Callable[[], Measured]] = {
            "raw": self.raw_postgresql if dsn else self.raw_sqlite,
            "delay_1": lambda: self.threads(1),
            "delay_8": lambda: self.threads(8),
            "delay_16": lambda: self.threads(16),
            "adelay_1": lambda: self.coroutines(1),
            "adelay_400": lambda: self.coroutines(400),
            "enqueue_many": self.bulk,
            "prepare": self.prepare,
        }

    def timed(self, work: Callable[[], int]) -> Measured:
        begun, cpu = time.perf_counter(), time.process_time()
        calls = work()
        used = time.process_time() - cpu
        return calls / (time.perf_counter() - begun), used / calls * 1e6

    def threads(self, count: int) -> Measured:
        self.hello.delay(name="warm", number=1)
        barrier = threading.Barrier(count + 1)
        calls = [0] * count
        until = [0.0]

        def produce(which: int) -> None:
            barrier.wait()
            done = 0
            while time.perf_counter() < until[0]:
                self.hello.delay(name="John", number=done)
                done += 1
            calls[which] = done

        workers = [threading.Thread(target=produce, args=(which,)) for which in range(count)]
        for worker in workers:
            worker.start()

        def work() -> int:
            until[0] = time.perf_counter() + self.seconds
            barrier.wait()
            for worker in workers:
                worker.join()
            return sum(calls)

        return self.timed(work)

    def coroutines(self, count: int) -> Measured:
        async def produce(until: float) -> int:
            done = 0
            while time.perf_counter() < until:
                await self.hello.adelay(name="John", number=done)
                done += 1
            return done

        async def main() -> Measured:
            await self.hello.adelay(name="warm", number=1)
            begun, cpu = time.perf_counter(), time.process_time()
            calls = sum(await asyncio.gather(*(produce(begun + self.seconds) for _ in range(count))))
            used = time.process_time() - cpu
            rate = calls / (time.perf_counter() - begun)
            await self.jm.aclose()
            return rate, used / calls * 1e6

        return asyncio.run(main())

    def bulk(self) -> Measured:
        self.hello.delay(name="warm", number=1)

        def work() -> int:
            until, calls = time.perf_counter() + self.seconds, 0
            while time.perf_counter() < until:
                self.jm.enqueue_many([self.hello.job(name="John", number=number) for number in range(BULK)])
                calls += BULK
            return calls

        return self.timed(work)

    def prepare(self) -> Measured:
        """The part of enqueue_many before a store is asked: calls checked, encoded, addressed."""
        client, enqueuer = self.jm.client, self.jm.enqueuer
        accept, client.accept = client.accept, lambda _: None  # type: ignore[method-assign]
        try:

            def work() -> int:
                until, calls = time.perf_counter() + self.seconds, 0
                while time.perf_counter() < until:
                    enqueuer.many([self.hello.job(name="John", number=number) for number in range(BULK)])
                    calls += BULK
                return calls

            return self.timed(work)
        finally:
            client.accept = accept  # type: ignore[method-assign]

    def raw_sqlite(self) -> Measured:
        raw = sqlite3.connect(self.folder / "raw.db", isolation_level=None)
        raw.executescript(
            "pragma journal_mode=wal; pragma synchronous=full;"
            "create table if not exists t (id integer primary key, b blob)"
        )

        def work() -> int:
            until, calls = time.perf_counter() + self.seconds, 0
            while time.perf_counter() < until:
                raw.execute("insert into t (b) values (zeroblob(160))")
                calls += 1
            return calls

        try:
            return self.timed(work)
        finally:
            raw.close()

    def raw_postgresql(self) -> Measured:
        import asyncpg

        async def main() -> Measured:
            raw = await asyncpg.connect(self.dsn)
            await raw.execute("create table if not exists raw_commits (id bigserial primary key, b bytea)")
            insert = await raw.prepare("insert into raw_commits (b) values ($1)")
            payload, calls = os.urandom(160), 0
            begun, cpu = time.perf_counter(), time.process_time()
            while time.perf_counter() < begun + self.seconds:
                await insert.fetch(payload)
                calls += 1
            used, took = time.process_time() - cpu, time.perf_counter() - begun
            await raw.close()
            return calls / took, used / calls * 1e6

        return asyncio.run(main())


def profiled(way: Callable[[], Measured]) -> None:
    """Where the calling threads' time goes; `threading.setprofile` reaches all threads that begin now."""
    profiles: list[cProfile.Profile] = []

    def begin(*_: object) -> None:
        profile = cProfile.Profile()
        profiles.append(profile)
        profile.enable()

    threading.setprofile(begin)
    begin()
    try:
        way()
    finally:
        profiles[0].disable()
        threading.setprofile(None)  # type: ignore[arg-type]
    stats = pstats.Stats(profiles[0], stream=sys.stdout)
    for profile in profiles[1:]:
        stats.add(profile)
    stats.sort_stats("tottime").print_stats(35)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="a PostgreSQL database; its tables are made")
    parser.add_argument("--folder", type=Path, help="where the SQLite file is made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each measurement in each round")
    parser.add_argument("--only", help="names, with commas between them; raw is always measured")
    parser.add_argument("--profile", help="the name of one way: print where its time goes instead")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="jobmaster-producer-", dir=arguments.folder) as folder:
        bench = Bench(arguments.dsn, Path(folder), arguments.seconds)
        if arguments.profile:
            profiled(bench.ways[arguments.profile])
            bench.jm.close()
            return
        wanted = {"raw", *(arguments.only or ",".join(bench.ways)).split(",")}
        found: dict[str, list[Measured]] = {name: [] for name in bench.ways if name in wanted}
        for _ in range(arguments.rounds):
            for name, taken in found.items():
                taken.append(bench.ways[name]())
        bench.jm.close()
    raw = statistics.median(rate for rate, _ in found["raw"])
    report = {}
    print(f"{'':14} {'calls/s':>9} {'x raw':>6} {'µs cpu':>7}   range")
    for name, taken in found.items():
        rates = [rate for rate, _ in taken]
        cpu = statistics.median(used for _, used in taken)
        rate = statistics.median(rates)
        report[name] = {"per_s": rate, "ratio": rate / raw, "cpu_us": cpu, "range": [min(rates), max(rates)]}
        print(f"{name:14} {rate:9,.0f} {rate / raw:6.2f} {cpu:7.1f}   {min(rates):,.0f}-{max(rates):,.0f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
