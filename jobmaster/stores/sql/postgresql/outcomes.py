"""Outcomes of runs (R12) decided one by one over locked rows: retries, and whatever the fast statement left undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import Settled, result_until_us
from jobmaster.model.states import JobStatus
from jobmaster.rules.storable import cleaned_error, cleaned_reason
from jobmaster.stores.sql.job_rows import CANCELLED, FAILED, HELD, State, encode_error, job_row
from jobmaster.stores.sql.postgresql.messages import remove
from jobmaster.stores.sql.postgresql.owning import own
from jobmaster.stores.sql.postgresql.recover import (
    ADD_ATTEMPTS,
    ATTEMPT_TYPES,
    ON_REPEATED_ATTEMPT,
    count_blames,
    tell_client,
)
from jobmaster.stores.sql.postgresql.rows import Change, insert_absent, states, tombstoned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Fence, Outcome
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

RUN = """touched_us = excluded.touched_us, reason = excluded.reason, worker = excluded.worker,
    attempts = excluded.attempts, failures = excluded.failures, started_us = excluded.started_us,
    finished_us = excluded.finished_us, result = excluded.result, error = excluded.error,
    checkpoint = coalesce(excluded.checkpoint, jm_job.checkpoint)"""
RUN_NAMES = (
    "touched_us", "reason", "worker", "attempts", "failures", "started_us", "finished_us", "result", "error",
    "checkpoint",
)  # fmt: skip
FINISH = Change(
    ("status", "result_until_us", *RUN_NAMES),
    f"status = excluded.status, result_until_us = excluded.result_until_us, {RUN}",
)
AGAIN = Change(
    ("status", "due_us", *RUN_NAMES, "task", "recoveries", "suspect"),
    f"""status = excluded.status, bucket = NULL, gen = jm_job.gen + 1, nonce = NULL, due_us = excluded.due_us, {RUN},
    task = excluded.task, recoveries = jm_job.recoveries + excluded.recoveries,
    suspect = greatest(jm_job.suspect, excluded.suspect)""",
)


async def finish(
    transaction: Transaction, fence: Fence, outcomes: Sequence[Outcome], *, removing: bool
) -> list[Settled]:
    """R12; `removing`: and R13 in the same transaction. Messages go first, as a cancel takes them first."""
    await own(transaction, fence)
    if removing:
        await remove(transaction, outcomes)
    batch = _Batch(transaction, fence)
    left = list(outcomes)
    while left:
        left = await batch.decide(left)
    await batch.write()
    return [Settled(batch.done[outcome.key]) for outcome in outcomes]


class _Batch:
    """One batch of outcomes: what is decided, and what is still to be written."""

    def __init__(self, transaction: Transaction, fence: Fence) -> None:
        self._transaction = transaction
        self._fence = fence
        self._stones: set[JobKey] = set()
        self._finished: list[Row] = []
        self._again: list[Row] = []
        self._attempts: list[Row] = []
        self.done: dict[JobKey, bool] = {}

    async def decide(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Decide over these; returned are those whose rows appeared meanwhile, to be decided again."""
        rows = await states(self._transaction, [outcome.key for outcome in outcomes])
        retries = [outcome.key for outcome in outcomes if outcome.status is JobStatus.HELD_ON_MASTER]
        self._stones |= await tombstoned(self._transaction, retries)
        absent = []
        for outcome in outcomes:
            row = rows.get(outcome.key)
            if row is None:
                absent.append(outcome)
            else:
                self._decide_over(row, outcome)
        inserted = await insert_absent(self._transaction, [self._new_row(outcome) for outcome in absent])
        for outcome in absent:
            if outcome.key in inserted:
                self._counts(outcome)
        return [outcome for outcome in absent if outcome.key not in inserted]

    async def write(self) -> None:
        """Write what was decided over rows that were there, and what goes with all."""
        transaction = self._transaction
        await FINISH.apply(transaction, self._finished)
        await AGAIN.apply(transaction, self._again)
        await transaction.insert(ADD_ATTEMPTS, ATTEMPT_TYPES, self._attempts, ON_REPEATED_ATTEMPT)
        await count_blames(transaction, self.done)

    def _decide_over(self, row: State, outcome: Outcome) -> None:
        if row.final:
            # This very outcome may have been stored before: its reply was lost.
            told = (outcome.gen, self._fence.bucket, outcome.attempt)
            self.done[outcome.key] = (row.gen, row.bucket, row.attempts) == told
        elif not row.mine(self._fence.bucket, outcome.gen):
            self.done[outcome.key] = False
        else:
            self._change(outcome)
            self._counts(outcome)

    def _change(self, outcome: Outcome) -> None:
        now_us = self._transaction.now_us
        error = encode_error(cleaned_error(outcome.error))
        reason, owner = cleaned_reason(outcome.reason), self._fence.owner
        run = (now_us, reason, owner, outcome.attempt, outcome.failures, outcome.started_us)
        if outcome.status is JobStatus.HELD_ON_MASTER:
            status, ended = (CANCELLED, now_us) if outcome.key in self._stones else (HELD, None)
            waits = (ended, outcome.result, error, outcome.checkpoint, outcome.envelope.task)
            crash = (int(outcome.recovered), int(outcome.recovered))
            self._again.append((outcome.key, status, now_us + outcome.delay_us, *run, *waits, *crash))
            return
        finished_us = outcome.finished_us or now_us
        until = result_until_us(outcome.envelope, outcome.result, finished_us)
        after = (finished_us, outcome.result, error, outcome.checkpoint)
        self._finished.append((outcome.key, outcome.status.value, until, *run, *after))

    def _new_row(self, outcome: Outcome) -> Row:
        """No row: the job was accepted, run and finished before anything else needed one."""
        again, cancelled = outcome.status is JobStatus.HELD_ON_MASTER, outcome.key in self._stones
        now_us = self._transaction.now_us
        finished_us = outcome.finished_us or now_us
        return job_row(
            outcome.key,
            outcome.envelope,
            outcome.payload,
            status=CANCELLED if again and cancelled else outcome.status.value,
            due_us=now_us + outcome.delay_us if again else outcome.due_us,
            now_us=now_us,
            gen=outcome.gen + 1 if again else outcome.gen,
            bucket=None if again else self._fence.bucket,
            started_us=outcome.started_us,
            finished_us=(now_us if cancelled else None) if again else finished_us,
            attempts=outcome.attempt,
            failures=outcome.failures,
            recoveries=int(outcome.recovered),
            suspect=outcome.recovered,
            reason=cleaned_reason(outcome.reason),
            worker=self._fence.owner,
            result=outcome.result,
            error=encode_error(cleaned_error(outcome.error)),
            checkpoint=outcome.checkpoint,
        )

    def _counts(self, outcome: Outcome) -> None:
        """The outcome is stored: the attempt's record if it failed or is repeated, and signals to whom it concerns."""
        self.done[outcome.key] = True
        again = outcome.status is JobStatus.HELD_ON_MASTER
        if again:
            self._transaction.topics.add("held")
        else:
            tell_client(self._transaction, outcome.envelope)
        if not (again or outcome.status is JobStatus.FAILED) or (outcome.started_us is None and outcome.error is None):
            return
        failed = outcome.error is not None or not again
        self._attempts.append(
            (
                outcome.key, outcome.attempt, FAILED if failed else HELD, self._fence.owner, self._fence.bucket,
                outcome.started_us, outcome.finished_us or self._transaction.now_us, cleaned_reason(outcome.reason),
                encode_error(cleaned_error(outcome.error)),
            )
        )  # fmt: skip
