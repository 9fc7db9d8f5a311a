"""Rows that change between a statement's snapshot and its lock: the server looks at them again, and goes on.

PostgreSQL 18 crashes there where the statement prunes partitions while it runs: all sessions of the server end. The
test server overwrites what it frees, so that each of these would show it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from jobmaster.model.job import NewJob
from jobmaster.ports.master import ClaimRequest
from tests.engine.postgresql_at_work import connected, job, opened, owned

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'jm_job'::regclass"


async def test_a_claim_whose_bucket_changes_meanwhile_gets_its_jobs(postgres_database: str) -> None:
    async with opened(postgres_database) as store, connected(postgres_database) as other:
        await store.purge(before_us=0, limit=1)  # makes the partitions of these weeks
        assert await other.fetchval(PARTITIONS) > 1
        bucket = await owned(store)
        jobs: list[NewJob] = [job() for _ in range(3)]
        await store.hold(jobs)
        async with other.transaction():
            await other.execute(f"UPDATE jm_bucket SET priority = priority WHERE id = {bucket.id}")
            claim = asyncio.create_task(store.claim([ClaimRequest(bucket.fence, "", 3, 10)], window_us=0))
            await waits(other)
        assert {one.key for one in (await claim).jobs} == {one.key for one in jobs}


async def waits(connection: asyncpg.Connection[Any]) -> None:
    """Until some session waits for a lock."""
    while not await connection.fetchval(WAITS):
        await asyncio.sleep(0.01)


async def test_sessions_of_verbs_prune_no_partitions_while_a_statement_runs(postgres_database: str) -> None:
    async with opened(postgres_database) as store:
        (row,) = await store._hot("SHOW enable_partition_pruning")
        assert row[0] == "off"
