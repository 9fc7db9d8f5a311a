"""RQ: SimpleWorker, which runs jobs in its own process (the default Worker forks for each job and is far slower).

One job at a time a process; results kept for 500 s, the default. Redis keeps its default durability.
"""

from __future__ import annotations

import redis
from driver import REDIS, Driver, Item, main, spawn
from rq import Queue
from rq_task import nothing

connection = redis.Redis.from_url(f"{REDIS}/5")
queue = Queue("bench", connection=connection)


class Rq(Driver):
    def reset(self) -> None:
        connection.flushdb()

    def one(self, job: Item) -> None:
        queue.enqueue(nothing, kwargs=job)

    def bulk(self, jobs: list[Item]) -> None:
        queue.enqueue_many([Queue.prepare_data(nothing, kwargs=job) for job in jobs])

    def worker(self, processes: int) -> None:
        spawn(processes, ["rq", "worker", "--quiet", "--url", f"{REDIS}/5", "-w", "rq.worker.SimpleWorker", "bench"])


if __name__ == "__main__":
    main(Rq())
