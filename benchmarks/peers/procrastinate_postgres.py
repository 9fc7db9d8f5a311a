"""Procrastinate on PostgreSQL: async worker, concurrency 100, ten connections; rows of ended jobs kept (default)."""

from __future__ import annotations

import asyncio
import logging
import sys

import procrastinate
import psycopg
from driver import POSTGRES, Driver, Item, main, spawn
from slots import ran

logging.disable(logging.INFO)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=POSTGRES, min_size=1, max_size=10))


@app.task(name="nothing", queue="bench")
async def nothing(number: int, who: str, due: float) -> None:
    ran(due)


class Procrastinate(Driver):
    async def open(self) -> None:
        await app.open_async()

    async def close(self) -> None:
        await app.close_async()

    async def reset(self) -> None:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            found = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone()
            if found == (None,):
                await app.schema_manager.apply_schema_async()
            connection.execute("TRUNCATE procrastinate_jobs CASCADE")

    async def one(self, job: Item) -> None:
        await nothing.defer_async(**job)

    async def bulk(self, jobs: list[Item]) -> None:
        await nothing.batch_defer_async(*jobs)

    def worker(self, processes: int) -> None:
        if processes > 1:
            spawn(processes, [sys.executable, __file__, "worker", "1"])
            return

        async def run() -> None:
            async with app.open_async():
                await app.run_worker_async(queues=["bench"], concurrency=100)

        asyncio.run(run())


if __name__ == "__main__":
    main(Procrastinate())
