"""Accepting jobs: as messages of a bucket (R1), or as held rows (R2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.ports.answers import Refused
from jobmaster.rules.storable import due_of
from jobmaster.stores.sql.job_rows import CANCELLED, HELD, job_row
from jobmaster.stores.sql.sqlite.rows import INSERT_JOBS, tombstoned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import NewJob
    from jobmaster.stores.sql.sqlite.transaction import Transaction

AGENT_BUCKET = "SELECT epoch, closing FROM jm_agent_bucket WHERE id = ?"
BOTH_KNOW = """
SELECT known.status, held.closing FROM jm_bucket known LEFT JOIN jm_agent_bucket held ON held.id = known.id
WHERE known.id = ?
"""
PUSHABLE = (1, 2, 5)
"""Active, Completing (until the agent closes it) and Lost."""

INSERT_MESSAGES = """
INSERT INTO jm_message (bucket, job_id, gen, due_us, later, verify, at_most_once, task, custom_id, created_us,
    payload) VALUES """
ONCE = " ON CONFLICT (job_id, gen, bucket) DO NOTHING"

PRESENT = "SELECT id FROM jm_job WHERE id IN ({keys})"


def push(transaction: Transaction, bucket: int, jobs: Sequence[NewJob]) -> None:
    """R1."""
    require_open(transaction, bucket)
    now_us = transaction.now_us
    rows = []
    for job in jobs:
        due_us = now_us + job.delay_us if job.due_us is None else job.due_us
        envelope = job.envelope
        rows.append(
            (
                bucket, job.key, 0, due_us, due_us > now_us, job.verify, envelope.at_most_once, envelope.task,
                envelope.custom_id,
                envelope.created_us, job.payload,
            )
        )  # fmt: skip
    transaction.insert(INSERT_MESSAGES, rows, ONCE)
    transaction.topics.add(f"bucket:{bucket}")


def require_open(transaction: Transaction, bucket: int) -> None:
    """Raise Refused unless messages may be put into the bucket."""
    if transaction.standalone:
        known = transaction.row(BOTH_KNOW, (bucket,))
        if known is None:
            raise Refused(f"bucket {bucket} is unknown")
        status, closing = known
        if closing or (closing is None and status not in PUSHABLE):
            raise Refused(f"bucket {bucket} is closing or closed")
        return
    row = transaction.row(AGENT_BUCKET, (bucket,))
    if row is None or row[1]:
        raise Refused(f"bucket {bucket} is {'unknown' if row is None else 'closing'}")


def hold(transaction: Transaction, jobs: Sequence[NewJob], reason: str) -> list[bool]:
    """R2. A job that was cancelled before it arrived is stored as Cancelled."""
    keys = [job.key for job in jobs]
    present: set[JobKey] = {row[0] for row in transaction.by_keys(PRESENT, keys)}
    cancelled = tombstoned(transaction, keys)
    now_us = transaction.now_us
    inserted, rows = [], []
    for job in jobs:
        inserted.append(job.key not in present)
        if job.key in present:
            continue
        present.add(job.key)
        ended = job.key in cancelled
        rows.append(
            job_row(
                job.key,
                job.envelope,
                job.payload,
                status=CANCELLED if ended else HELD,
                due_us=due_of(job, now_us),
                now_us=now_us,
                finished_us=now_us if ended else None,
                suspect=job.verify,
                reason="" if ended else reason,
            )
        )
    transaction.insert(INSERT_JOBS, rows)
    if rows:
        transaction.topics.add("held")
    return inserted
