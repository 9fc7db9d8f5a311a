"""Several buckets in one transaction are held in one order, and large backlogs are changed in several transactions."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest import mock

import asyncpg
import pytest

from jobmaster.errors import StoreUnavailable
from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.reasons import UNROUTABLE
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import ClaimRequest, MasterRules
from jobmaster.stores.sql.postgresql import retention, upkeep, weeks
from jobmaster.stores.sql.postgresql.store import PostgresStore

pytestmark = pytest.mark.backend("postgresql")

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
MANY_ENDED = """
INSERT INTO jm_job (id, status, gen, task, lane, priority, created_us, scheduled_us, due_us, touched_us, finished_us,
    reason, payload)
SELECT gen_random_uuid(), 5, 0, 'task', '', 3, number, number, number, number, number, '', ''
FROM generate_series(1, 5000) AS number
"""


async def test_claims_for_several_buckets_hold_them_by_number(postgres_database: str) -> None:
    """A renewal stores depths by number; claims in another order end both after a second, by a deadlock."""
    store = await PostgresStore.open(postgres_database, rules=MasterRules())
    renewal = await asyncpg.connect(postgres_database)
    try:
        worker = (await store.register(Registration("w", 1, "here", ("",), WorkerMode.FULL))).worker
        new = [NewBucket("t", "here", "", 3), NewBucket("u", "here", "", 2)]
        first, second = sorted(await store.create_buckets(worker, new), key=lambda bucket: bucket.id)
        transaction = renewal.transaction()
        await transaction.start()
        await renewal.execute("UPDATE jm_bucket SET depth = 1 WHERE id = $1", first.id)
        requests = [ClaimRequest(bucket.fence, "", bucket.priority, 5) for bucket in (second, first)]
        claim = asyncio.create_task(store.claim(requests, window_us=0))
        async with asyncio.timeout(10):
            while not await renewal.fetchval(WAITS):
                await asyncio.sleep(0.01)
        await renewal.execute("SELECT FROM jm_bucket WHERE id = $1 FOR UPDATE NOWAIT", second.id)
        await transaction.commit()
        assert (await claim).fenced == []
    finally:
        await renewal.close()
        await store.close_store()


async def test_a_large_backlog_is_routed_in_parts(postgres_database: str) -> None:
    envelope = Envelope("greet", b"", 1, 1)
    jobs = [NewJob(new_job_key(), envelope, encode_envelope(envelope)) for _ in range(5)]
    store = await PostgresStore.open(postgres_database, rules=MasterRules())
    parts: list[int] = []
    real = upkeep.route

    async def counted(*values: object) -> int:
        if len(parts) == 2 and sum(parts) == 4:
            raise StoreUnavailable("gone in the middle")
        parts.append(await real(*values))  # type: ignore[arg-type]
        return parts[-1]

    try:
        await store.hold(jobs, reason=UNROUTABLE)
        with mock.patch.object(upkeep, "ROUTED_AT_ONCE", 2), mock.patch.object(upkeep, "route", counted):
            assert await store.route(["greet"]) == 4, "what was done is told, although the rest was not possible"
            parts.append(0)
            assert await store.route(["greet"]) == 1
        assert parts == [2, 2, 0, 1]
        assert await store.route(["greet"]) == 0
    finally:
        await store.close_store()


async def test_no_question_about_old_jobs_sorts_or_counts_all_of_them(new_postgres_database: str) -> None:
    """Retention that is switched on late, an archive that is added: each batch looks at its own rows only."""
    people = await asyncpg.connect(new_postgres_database)
    try:
        await people.execute(MANY_ENDED)
        await people.execute("SET enable_seqscan = off")
        old = [statement.format(table="jm_job") for statement in (retention.OLD, retention.OLD_AND_HELD)]
        for statement in (*old, weeks.COUNT.format(name="jm_job_default")):
            text = statement.replace("$1", "9000000").replace("$2", "50").replace("100000", "50")
            (plan,) = json.loads(await people.fetchval(f"EXPLAIN (ANALYZE, FORMAT json) {text}"))
            assert max(_rows(plan["Plan"])) <= 50, statement
    finally:
        await people.close()


def _rows(plan: dict[str, Any]) -> list[float]:
    """How many rows each step gave; those of a bitmap are a guess from the number of its pages."""
    below = [count for step in plan.get("Plans", ()) for count in _rows(step)]
    return below if plan["Node Type"] == "Bitmap Index Scan" else [plan["Actual Rows"], *below]
