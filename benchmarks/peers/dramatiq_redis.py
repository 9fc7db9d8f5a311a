"""Dramatiq on Redis: its default of 8 threads a process, results kept in another Redis database.

The Prometheus middleware is left out, where the version has it on by default. Redis keeps its default durability.
"""

from __future__ import annotations

import os

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from driver import REDIS, Driver, Item, main
from slots import ran

broker = RedisBroker(url=f"{REDIS}/3")
broker.middleware = [part for part in broker.middleware if type(part).__name__ != "Prometheus"]
broker.add_middleware(Results(backend=RedisBackend(url=f"{REDIS}/4"), store_results=True, result_ttl=600_000))
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench")
def nothing(number: int, who: str, due: float) -> None:
    ran(due)


class Dramatiq(Driver):
    def reset(self) -> None:
        for database in (3, 4):
            redis.Redis.from_url(f"{REDIS}/{database}").flushdb()

    def one(self, job: Item) -> None:
        nothing.send(**job)

    def worker(self, processes: int) -> None:
        os.execvp("dramatiq", ["dramatiq", "dramatiq_redis", "-p", str(processes), "-t", "8", "--skip-logging"])


if __name__ == "__main__":
    main(Dramatiq())
