"""The deadline sweep (R17', I5), and jobs whose task appeared. Each call does a bounded amount and says how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.stores.sql.job_rows import STATE, State
from jobmaster.stores.sql.postgresql.recover import recover, tell_ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.stores.sql.postgresql.transaction import Transaction

# Buckets that open rows point at, one step in the index for each, and of those the ones that are gone.
MISSING = """
WITH RECURSIVE pointed(bucket) AS (
    (SELECT bucket FROM jm_job WHERE status IN (3, 4, 6) AND bucket IS NOT NULL ORDER BY bucket LIMIT 1)
    UNION ALL
    SELECT (SELECT j.bucket FROM jm_job j WHERE j.status IN (3, 4, 6) AND j.bucket > p.bucket ORDER BY j.bucket LIMIT 1)
    FROM pointed p WHERE p.bucket IS NOT NULL
)
SELECT array_agg(p.bucket) FROM pointed p
WHERE p.bucket IS NOT NULL AND NOT EXISTS (SELECT FROM jm_bucket b WHERE b.id = p.bucket)
"""
STRANDED = f"""
SELECT {STATE} FROM jm_job WHERE bucket = ANY($1::bigint[]) AND status IN (3, 4, 6) AND touched_us < $2
ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
"""
# An occurrence of a schedule was missed: its misfire policy says so, and nothing has failed.
EXPIRE = """
UPDATE jm_job SET status = CASE trigger_kind WHEN 1 THEN 7 ELSE 8 END,
    reason = CASE trigger_kind WHEN 1 THEN 'expired' ELSE 'missed' END, finished_us = $1, touched_us = $1
WHERE id = ANY(ARRAY(
    SELECT id FROM jm_job WHERE status = 2 AND expires_us IS NOT NULL AND expires_us <= $1
        AND (trigger_kind = 1 OR attempts = 0)
    ORDER BY expires_us LIMIT $2 FOR UPDATE SKIP LOCKED
)) RETURNING id
"""
ROUTE = """
UPDATE jm_job SET reason = '', due_us = $1, task = split_part(task, ' (message version ', 1) WHERE id = ANY(ARRAY(
    SELECT id FROM jm_job WHERE status = 2 AND reason = 'unroutable' AND task = ANY($2::text[]) LIMIT $3
    FOR UPDATE SKIP LOCKED
))
"""
"""The task's own name comes back, too (`model.versions`)."""
ANY_UNROUTABLE = """
SELECT EXISTS (SELECT FROM jm_job WHERE status = 2 AND reason = 'unroutable' AND task = ANY($1::text[]))
"""

ROUTED_AT_ONCE = 5_000
"""Rows of one transaction: with all of a large backlog no statement would end in its time."""


async def sweep(transaction: Transaction, overdue_us: int, limit: int) -> int:
    """R17': rows whose bucket is gone; and held rows past their deadline."""
    now_us = await transaction.tick()
    stranded: list[State] = []
    missing = await transaction.value(MISSING)
    if missing:
        rows = await transaction.rows(STRANDED, missing, now_us - overdue_us, limit)
        stranded = [State(*row) for row in rows]
        await recover(transaction, stranded)
    expired = [row[0] for row in await transaction.rows(EXPIRE, now_us, max(limit - len(stranded), 0))]
    await tell_ended(transaction, expired)
    return len(stranded) + len(expired)


async def route(transaction: Transaction, tasks: Sequence[str]) -> int:
    """Jobs of tasks that somebody knows now may be claimed: some of them, not more than ROUTED_AT_ONCE."""
    names = list(dict.fromkeys(tasks))
    if not await transaction.value(ANY_UNROUTABLE, names):
        return 0
    found = await transaction.changed(ROUTE, await transaction.tick(), names, ROUTED_AT_ONCE)
    if found:
        transaction.topics.add("held")
    return found
