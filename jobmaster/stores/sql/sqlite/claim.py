"""Held jobs go to owners straight from their rows (R14'). Each lane and priority is one range of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import ClaimedJob
from jobmaster.ports.answers import Fenced
from jobmaster.ports.master import Claimed
from jobmaster.stores.sql.job_rows import QUEUED
from jobmaster.stores.sql.sqlite.owning import ACTIVE, own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.ports.master import ClaimRequest
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

# "unroutable" rows are left out of the index by the same words: jobs whose task no worker knows. A row that came after
# its cancel (in somebody's own transaction) is suspect: its start is guarded, and the guard sees the tombstone.
FALLEN_DUE = """
SELECT id, gen + 1, payload, due_us, attempts, failures, recoveries,
    suspect OR EXISTS (SELECT 1 FROM jm_tombstone t WHERE t.job_id = jm_job.id), checkpoint FROM jm_job
WHERE status = 2 AND reason <> 'unroutable' AND lane = ? AND priority = ? AND due_us <= ? ORDER BY due_us LIMIT ?
"""
TAKE = """
UPDATE jm_job SET status = ?, bucket = ?, worker = ?, gen = gen + 1, nonce = NULL, touched_us = ?, reason = ''
WHERE id = ?
"""
NEXT_DUE = """
SELECT due_us FROM jm_job WHERE status = 2 AND reason <> 'unroutable' AND lane = ? AND priority = ?
ORDER BY due_us LIMIT 1
"""
ROUTE = """
UPDATE jm_job SET reason = '', due_us = ?,
    task = substr(task, 1, instr(task || ' (message version ', ' (message version ') - 1)
WHERE status = 2 AND reason = 'unroutable' AND task = ?
"""
"""The task's own name comes back, too (`model.versions`)."""


def claim(transaction: Transaction, requests: Sequence[ClaimRequest], window_us: int) -> Claimed:
    """R14'. A request whose fence does not hold is named in the answer, the others are served."""
    jobs: list[ClaimedJob] = []
    fenced = []
    asked = set()
    for request in requests:
        asked.add((request.lane, request.priority))
        try:
            jobs += _claim(transaction, request, window_us)
        except Fenced:
            fenced.append(request.fence.bucket)
    dues = [row[0] for place in asked if (row := transaction.row(NEXT_DUE, place))]
    now_us = transaction.now_us
    return Claimed(jobs=jobs, now_us=now_us, taken_us=now_us, next_due_us=min(dues, default=None), fenced=fenced)


def _claim(transaction: Transaction, request: ClaimRequest, window_us: int) -> list[ClaimedJob]:
    fence = request.fence
    bucket = own(transaction, fence)
    if bucket.status != ACTIVE:
        return []
    horizon = transaction.now_us + window_us
    rows = transaction.rows(FALLEN_DUE, (bucket.lane, bucket.priority, horizon, max(request.limit, 0)))
    taken = [(QUEUED, fence.bucket, fence.owner, transaction.now_us, row[0]) for row in rows]
    transaction.connection.executemany(TAKE, taken)
    return [_claimed(fence.bucket, row) for row in rows]


def _claimed(bucket: int, row: Row) -> ClaimedJob:
    key, gen, payload, due_us, attempts, failures, recoveries, suspect, checkpoint = row
    return ClaimedJob(
        key=key,
        gen=gen,
        bucket=bucket,
        payload=payload,
        due_us=due_us,
        attempts=attempts,
        failures=failures,
        recoveries=recoveries,
        suspect=bool(suspect),
        checkpoint=checkpoint,
    )


def route(transaction: Transaction, tasks: Sequence[str]) -> int:
    """Jobs of tasks that somebody knows now may be claimed."""
    found = sum(transaction.changed(ROUTE, (transaction.now_us, task)) for task in dict.fromkeys(tasks))
    if found:
        transaction.topics.add("held")
    return found
