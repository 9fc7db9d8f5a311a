"""Who takes part, with which settings. Each driver's first lines say more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One configuration of a queue.

    Attributes:
        driver: file in benchmarks/peers, without its ending.
        jobs: jobs of a drain; about 2 to 5 s of work each.
        needs: the servers that it uses.
        final: SQL that counts the jobs in their final state, where that is kept in a database.
        environment, for_latency: what its driver reads, the second only while latency is measured.
    """

    name: str
    driver: str
    settings: str
    jobs: int
    needs: tuple[str, ...]
    final: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    for_latency: Mapping[str, str] = field(default_factory=dict)


OURS_FINAL = "SELECT count(*) FROM jm_job WHERE status = 5"
PGQUEUER_FINAL = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"

OURS = Contestant(
    name="jobmaster", driver="ours", jobs=20_000, needs=("postgres",), final=OURS_FINAL,
    settings="standalone on PostgreSQL, async task, default settings, every outcome in the master",
)  # fmt: skip
OURS_SQLITE = Contestant(
    name="jobmaster-sqlite", driver="ours", jobs=20_000, needs=("sqlite",), final=OURS_FINAL,
    settings="standalone on one SQLite file, synchronous=FULL, async task, default settings",
)  # fmt: skip
RAW = Contestant(
    name="raw-postgres", driver="raw", jobs=0, needs=("postgres",), settings="one insert a commit, asyncpg"
)
RAW_SQLITE = Contestant(
    name="raw-sqlite", driver="raw", jobs=0, needs=("sqlite",), settings="one insert a commit, WAL, synchronous=FULL"
)

PEERS = (
    Contestant(
        name="pgqueuer", driver="pgqueuer_postgres", jobs=20_000, needs=("postgres",), final=PGQUEUER_FINAL,
        settings="PostgreSQL, batch size 100, durable tables, log kept",
    ),
    Contestant(
        name="pgqueuer-1000", driver="pgqueuer_postgres", jobs=20_000, needs=("postgres",), final=PGQUEUER_FINAL,
        environment={"BENCH_BATCH": "1000", "BENCH_UVLOOP": "1"},
        settings="PostgreSQL, batch size 1,000, uvloop, durable tables, log kept",
    ),
    Contestant(
        name="procrastinate", driver="procrastinate_postgres", jobs=2_000, needs=("postgres",),
        final="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
        settings="PostgreSQL, concurrency 100, 10 connections, rows kept",
    ),
    Contestant(
        name="celery", driver="celery_redis", jobs=4_000, needs=("redis",),
        settings="Redis, prefork, prefetch 64 a child, early acknowledgement, results in Redis",
    ),
    Contestant(
        name="dramatiq", driver="dramatiq_redis", jobs=6_000, needs=("redis",),
        settings="Redis, 8 threads a process, results in Redis",
    ),
    Contestant(
        name="rq", driver="rq_redis", jobs=1_500, needs=("redis",),
        settings="Redis, SimpleWorker (no fork), results kept 500 s",
    ),
    Contestant(
        name="taskiq-nats", driver="taskiq_nats_redis", jobs=6_000, needs=("nats", "redis"),
        environment={"BENCH_BATCH": "100"}, for_latency={"BENCH_BATCH": "1"},
        settings="JetStream on files, pull of 100 (latency: 1, its default), 100 async tasks, results in Redis",
    ),
)  # fmt: skip
