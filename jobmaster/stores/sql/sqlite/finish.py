"""Outcomes of runs (R12), and letting go of jobs (R21, the graceful stop's hand-back). One transaction a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import Settled, result_until_us
from jobmaster.model.reasons import HANDED_BACK
from jobmaster.model.states import JobStatus
from jobmaster.rules.storable import cleaned, cleaned_error
from jobmaster.stores.sql.job_rows import CANCELLED, FAILED, HELD, PROCESSING, WAITING, State, encode_error, job_row
from jobmaster.stores.sql.sqlite.owning import own
from jobmaster.stores.sql.sqlite.read import remove
from jobmaster.stores.sql.sqlite.recover import ADD_ATTEMPT, blames_on, count_blames, hold_row, tell_client
from jobmaster.stores.sql.sqlite.rows import INSERT_JOBS, states, tombstoned

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobmaster.model.job import Fence, Outcome
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

FINISH = """
UPDATE jm_job SET status = ?, finished_us = ?, touched_us = ?, reason = ?, worker = ?, attempts = ?, failures = ?,
    started_us = ?, result = ?, result_until_us = ?, error = ?, checkpoint = coalesce(?, checkpoint) WHERE id = ?
"""
AGAIN = """
UPDATE jm_job SET status = ?, bucket = NULL, gen = gen + 1, nonce = NULL, due_us = ?, touched_us = ?, reason = ?,
    worker = ?, attempts = ?, failures = ?, started_us = ?, finished_us = ?, result = ?, error = ?,
    checkpoint = coalesce(?, checkpoint), task = ?, recoveries = recoveries + ?, suspect = max(suspect, ?)
WHERE id = ?
"""


def finish(transaction: Transaction, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
    """R12."""
    own(transaction, fence)
    keys = [outcome.key for outcome in outcomes]
    rows = states(transaction, keys)
    repeated = [outcome.key for outcome in outcomes if outcome.status is JobStatus.HELD_ON_MASTER]
    stones = tombstoned(transaction, repeated)
    new: list[Row] = []
    settled = []
    for outcome in outcomes:
        row = rows.get(outcome.key)
        if row is None:
            new.append(_new_row(transaction, fence, outcome, cancelled=outcome.key in stones))
        elif row.final:
            settled.append(Settled(_reported(row, fence, outcome)))
            continue
        elif not row.mine(fence.bucket, outcome.gen):
            settled.append(Settled(done=False))
            continue
        else:
            _update(transaction, fence, outcome, cancelled=outcome.key in stones)
        _note(transaction, fence, outcome)
        settled.append(Settled(done=True))
    transaction.insert(INSERT_JOBS, new)
    count_blames(transaction, blames_on(transaction, keys))
    return settled


def settle(transaction: Transaction, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
    """R12 and R13 as one transaction."""
    settled = finish(transaction, fence, outcomes)
    _remove(transaction, fence, outcomes)
    return settled


def _reported(row: State, fence: Fence, outcome: Outcome) -> bool:
    """This very outcome was stored before (its reply was lost)."""
    return (row.gen, row.bucket, row.attempts) == (outcome.gen, fence.bucket, outcome.attempt)


def _new_row(transaction: Transaction, fence: Fence, outcome: Outcome, *, cancelled: bool) -> Row:
    """No row: the job was accepted, run and finished before anything else needed one."""
    again = outcome.status is JobStatus.HELD_ON_MASTER
    now_us = transaction.now_us
    finished_us = outcome.finished_us or now_us
    return job_row(
        outcome.key,
        outcome.envelope,
        outcome.payload,
        status=CANCELLED if again and cancelled else outcome.status.value,
        due_us=now_us + outcome.delay_us if again else outcome.due_us,
        now_us=now_us,
        gen=outcome.gen + 1 if again else outcome.gen,
        bucket=None if again else fence.bucket,
        started_us=outcome.started_us,
        finished_us=(now_us if cancelled else None) if again else finished_us,
        attempts=outcome.attempt,
        failures=outcome.failures,
        recoveries=int(outcome.recovered),
        suspect=outcome.recovered,
        reason=cleaned(outcome.reason),
        worker=fence.owner,
        result=outcome.result,
        error=encode_error(cleaned_error(outcome.error)),
        checkpoint=outcome.checkpoint,
    )


def _update(transaction: Transaction, fence: Fence, outcome: Outcome, *, cancelled: bool) -> None:
    now_us = transaction.now_us
    reason, error = cleaned(outcome.reason), encode_error(cleaned_error(outcome.error))
    run = (fence.owner, outcome.attempt, outcome.failures, outcome.started_us)
    if outcome.status is JobStatus.HELD_ON_MASTER:
        status, ended = (CANCELLED, now_us) if cancelled else (HELD, None)
        values = (status, now_us + outcome.delay_us, now_us, reason, *run, ended, outcome.result, error)
        crash = (outcome.recovered, outcome.recovered)
        transaction.execute(AGAIN, (*values, outcome.checkpoint, outcome.envelope.task, *crash, outcome.key))
        return
    finished_us = outcome.finished_us or now_us
    until = result_until_us(outcome.envelope, outcome.result, finished_us)
    final = (outcome.status.value, finished_us, now_us, reason, *run, outcome.result, until, error)
    transaction.execute(FINISH, (*final, outcome.checkpoint, outcome.key))


def _note(transaction: Transaction, fence: Fence, outcome: Outcome) -> None:
    """The attempt's record where it failed or will be repeated, and the signal to whom it concerns."""
    again = outcome.status is JobStatus.HELD_ON_MASTER
    if again:
        transaction.topics.add("held")
    else:
        tell_client(transaction, outcome.envelope)
    if not (again or outcome.status is JobStatus.FAILED) or (outcome.started_us is None and outcome.error is None):
        return
    failed = outcome.error is not None or not again
    transaction.execute(
        ADD_ATTEMPT,
        (
            outcome.key, outcome.attempt, FAILED if failed else HELD, fence.owner, fence.bucket, outcome.started_us,
            outcome.finished_us or transaction.now_us, cleaned(outcome.reason),
            encode_error(cleaned_error(outcome.error)),
        ),
    )  # fmt: skip


def release(transaction: Transaction, fence: Fence, jobs: Sequence[Outcome]) -> None:
    """R21. What is Processing stays."""
    own(transaction, fence)
    _let_go(transaction, fence, jobs, WAITING)


def hand_back(transaction: Transaction, fence: Fence, jobs: Sequence[Outcome]) -> None:
    """The graceful stop's way: runs that have ended without an outcome wait again, due now."""
    own(transaction, fence)
    _let_go(transaction, fence, jobs, (*WAITING, PROCESSING), due_us=transaction.now_us)


def set_free(transaction: Transaction, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> None:
    """Release or hand back, and remove the messages, as one transaction."""
    (hand_back if ended else release)(transaction, fence, jobs)
    _remove(transaction, fence, jobs)


def _let_go(
    transaction: Transaction,
    fence: Fence,
    jobs: Sequence[Outcome],
    statuses: Collection[int],
    *,
    due_us: int | None = None,
) -> None:
    keys = [job.key for job in jobs]
    rows, stones = states(transaction, keys), tombstoned(transaction, keys)
    new, freed = [], []
    for job in jobs:
        row = rows.get(job.key)
        due = job.due_us if due_us is None else due_us
        if row is None:
            new.append(_freed_row(transaction, job, due_us=due, cancelled=job.key in stones))
            freed.append(job)
        elif row.status in statuses and row.mine(fence.bucket, job.gen):
            freed.append(job)
            hold_row(
                transaction,
                row,
                due_us=due,
                cancelled=job.key in stones,
                reason=cleaned(job.reason),
                attempts=row.attempts - 1 if row.status == PROCESSING else row.attempts,
                checkpoint=None if due_us is None else job.checkpoint,
            )
    transaction.insert(INSERT_JOBS, new)
    if due_us is not None:
        _record_handed_back(transaction, fence, freed)
    if new:
        transaction.topics.add("held")


def _record_handed_back(transaction: Transaction, fence: Fence, jobs: Sequence[Outcome]) -> None:
    """The runs that a stop has ended: the next one of each job has its number."""
    for job in jobs:
        if job.started_us is not None:
            transaction.execute(
                ADD_ATTEMPT,
                (
                    job.key, job.attempt, HELD, fence.owner, fence.bucket, job.started_us, transaction.now_us,
                    HANDED_BACK, None,
                ),
            )  # fmt: skip


def _freed_row(transaction: Transaction, job: Outcome, *, due_us: int, cancelled: bool) -> Row:
    if cancelled:
        tell_client(transaction, job.envelope)
    return job_row(
        job.key,
        job.envelope,
        job.payload,
        status=CANCELLED if cancelled else HELD,
        due_us=due_us,
        now_us=transaction.now_us,
        gen=job.gen + 1,
        finished_us=transaction.now_us if cancelled else None,
        failures=job.failures,
        reason=cleaned(job.reason),
    )


def _remove(transaction: Transaction, fence: Fence, jobs: Sequence[Outcome]) -> None:
    remove(transaction, fence.bucket, [job.seq for job in jobs if job.seq is not None])
