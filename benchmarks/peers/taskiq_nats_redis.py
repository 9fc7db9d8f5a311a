"""Taskiq on NATS JetStream (files, acknowledged pulls) with results in Redis; 100 concurrent tasks a process.

BENCH_BATCH is the size of a pull. Drains use 100, its fastest; latency uses 1, its default: a larger pull waits
until it is full or times out. JetStream keeps its default: what it acknowledged is written, and synced within two
minutes.
"""

from __future__ import annotations

import contextlib
import os

import nats
import redis
from driver import NATS, REDIS, Driver, Item, main
from nats.js.errors import NotFoundError
from slots import ran
from taskiq_nats import PullBasedJetStreamBroker
from taskiq_redis import RedisAsyncResultBackend

BATCH = int(os.environ.get("BENCH_BATCH", "1"))
results: RedisAsyncResultBackend[None] = RedisAsyncResultBackend(f"{REDIS}/7", result_ex_time=600)
broker = PullBasedJetStreamBroker(
    [NATS], stream_name="bench", subject="bench", durable="bench", pull_consume_batch=BATCH
).with_result_backend(results)


@broker.task(task_name="nothing")
async def nothing(number: int, who: str, due: float) -> None:
    ran(due)


class Taskiq(Driver):
    async def open(self) -> None:
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def reset(self) -> None:
        redis.Redis.from_url(f"{REDIS}/7").flushdb()
        connection = await nats.connect(NATS)
        with contextlib.suppress(NotFoundError):
            await connection.jetstream().purge_stream("bench")
        await connection.close()

    async def one(self, job: Item) -> None:
        await nothing.kiq(**job)

    def worker(self, processes: int) -> None:
        fixed = ("--max-async-tasks", "100", "--log-level", "ERROR", "--no-parse")
        os.execvp("taskiq", ["taskiq", "worker", "taskiq_nats_redis:broker", "--workers", str(processes), *fixed])


if __name__ == "__main__":
    main(Taskiq())
