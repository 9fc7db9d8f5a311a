"""Letting go of jobs: release (R21), and the hand-back of a graceful stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.reasons import HANDED_BACK
from jobmaster.rules.storable import cleaned_reason
from jobmaster.stores.sql.job_rows import CANCELLED, HELD, PROCESSING, WAITING, job_row
from jobmaster.stores.sql.postgresql.messages import remove
from jobmaster.stores.sql.postgresql.owning import own
from jobmaster.stores.sql.postgresql.recover import (
    ADD_ATTEMPTS,
    ATTEMPT_TYPES,
    ON_REPEATED_ATTEMPT,
    Held,
    hold_rows,
    tell_client,
)
from jobmaster.stores.sql.postgresql.rows import insert_absent, states, tombstoned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.job import Fence, Outcome
    from jobmaster.stores.sql.job_rows import Row, State
    from jobmaster.stores.sql.postgresql.transaction import Transaction


async def let_go(
    transaction: Transaction, fence: Fence, jobs: Sequence[Outcome], *, ended: bool, removing: bool
) -> None:
    """Release, or (`ended`) hand back; `removing`: and remove the messages in the same transaction."""
    await own(transaction, fence)
    if removing:
        await remove(transaction, jobs)
    left = list(jobs)
    while left:
        left = await _decide(transaction, fence, left, ended=ended)


async def _decide(transaction: Transaction, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> list[Outcome]:
    """Let go of these; returned are those whose rows appeared meanwhile, to be decided again."""
    keys = [job.key for job in jobs]
    rows = await states(transaction, keys)
    stones = await tombstoned(transaction, keys)
    absent, held, freed = [], [], []
    for job in jobs:
        row = rows.get(job.key)
        if row is None:
            absent.append(job)
        elif _may_go(row, ended=ended) and row.mine(fence.bucket, job.gen):
            held.append(_held(transaction, row, job, ended=ended, cancelled=job.key in stones))
            freed.append(job)
    await hold_rows(transaction, held)
    new = [_new_row(transaction, job, ended=ended, cancelled=job.key in stones) for job in absent]
    inserted = await insert_absent(transaction, new)
    for job in absent:
        if job.key in inserted:
            freed.append(job)
            if job.key in stones:
                tell_client(transaction, job.envelope)
    if ended:
        await _record(transaction, fence, freed)
    if inserted:
        transaction.topics.add("held")
    return [job for job in absent if job.key not in inserted]


async def _record(transaction: Transaction, fence: Fence, jobs: Sequence[Outcome]) -> None:
    """The runs that a stop has ended: the next one of each job has its number."""
    records = [
        (
            job.key, job.attempt, HELD, fence.owner, fence.bucket, job.started_us, transaction.now_us, HANDED_BACK,
            None,
        )
        for job in sorted(jobs, key=lambda job: job.key)
        if job.started_us is not None
    ]  # fmt: skip
    await transaction.insert(ADD_ATTEMPTS, ATTEMPT_TYPES, records, ON_REPEATED_ATTEMPT)


def _may_go(row: State, *, ended: bool) -> bool:
    return row.status in WAITING or (ended and row.status == PROCESSING)


def _held(transaction: Transaction, row: State, job: Outcome, *, ended: bool, cancelled: bool) -> Held:
    """A run that was interrupted counts as no attempt, and keeps its checkpoint."""
    return Held(
        row,
        transaction.now_us if ended else job.due_us,
        cancelled,
        reason=cleaned_reason(job.reason),
        attempts=row.attempts - 1 if row.status == PROCESSING else row.attempts,
        checkpoint=job.checkpoint if ended else None,
    )


def _new_row(transaction: Transaction, job: Outcome, *, ended: bool, cancelled: bool) -> Row:
    return job_row(
        job.key,
        job.envelope,
        job.payload,
        status=CANCELLED if cancelled else HELD,
        due_us=transaction.now_us if ended else job.due_us,
        now_us=transaction.now_us,
        gen=job.gen + 1,
        finished_us=transaction.now_us if cancelled else None,
        failures=job.failures,
        reason=cleaned_reason(job.reason),
    )
