"""PgQueuer on PostgreSQL: one asyncpg connection, durable tables, ended jobs kept in its log: its defaults.

BENCH_BATCH is its batch size; 1,000 together with BENCH_UVLOOP=1 is the fastest setting we know of.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta

import asyncpg
import orjson
from driver import POSTGRES, Driver, Item, main, spawn
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from slots import ran

BATCH = int(os.environ.get("BENCH_BATCH", "100"))


class Pgqueuer(Driver):
    async def open(self) -> None:
        self.connection = await asyncpg.connect(POSTGRES)
        self.queries = Queries(AsyncpgDriver(self.connection))

    async def close(self) -> None:
        await self.connection.close()

    async def reset(self) -> None:
        if not await self.connection.fetchval("SELECT to_regclass('pgqueuer')"):
            await self.queries.install()
        await self.connection.execute("TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics")

    async def one(self, job: Item) -> None:
        await self.queries.enqueue("nothing", orjson.dumps(job))

    async def bulk(self, jobs: list[Item]) -> None:
        await self.queries.enqueue(["nothing"] * len(jobs), [orjson.dumps(job) for job in jobs], [0] * len(jobs))

    def worker(self, processes: int) -> None:
        if processes > 1:
            spawn(processes, [sys.executable, __file__, "worker", "1"])
        elif os.environ.get("BENCH_UVLOOP") == "1":
            import uvloop

            uvloop.run(_run())
        else:
            asyncio.run(_run())


async def _run() -> None:
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(POSTGRES)))

    @queuer.entrypoint("nothing")
    async def nothing(job: Job) -> None:
        ran(orjson.loads(job.payload or b"")["due"])

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
    await queuer.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=30))


if __name__ == "__main__":
    main(Pgqueuer())
