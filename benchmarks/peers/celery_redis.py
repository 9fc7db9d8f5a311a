"""Celery on Redis, prefork with one or two children.

Prefetch 64 a child, as its manual advises for many short tasks; early acknowledgement (the default); gossip, mingle and
heartbeats off, which only costs it time. Results in another Redis database. Its only bulk call is a group, which sends
one by one. Redis keeps its default durability: snapshots, so a crash of the host loses the last seconds or minutes.
"""

from __future__ import annotations

import os

import redis
from celery import Celery, group
from driver import REDIS, Driver, Item, main
from slots import ran

app = Celery("celery_redis", broker=f"{REDIS}/1", backend=f"{REDIS}/2")
app.conf.update(worker_prefetch_multiplier=64, result_expires=600, broker_connection_retry_on_startup=True)


@app.task(name="nothing")
def nothing(number: int, who: str, due: float) -> None:
    ran(due)


class CeleryDriver(Driver):
    def reset(self) -> None:
        for database in (1, 2):
            redis.Redis.from_url(f"{REDIS}/{database}").flushdb()

    def one(self, job: Item) -> None:
        nothing.delay(**job)

    def bulk(self, jobs: list[Item]) -> None:
        group([nothing.s(**job) for job in jobs]).apply_async()

    def worker(self, processes: int) -> None:
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR")
        os.execvp("celery", ["celery", "-A", "celery_redis", "worker", "-P", "prefork", "-c", str(processes), *quiet])


if __name__ == "__main__":
    main(CeleryDriver())
