"""Starts and ends of runs, batch by batch under the owner's fence (R10 to R12, R21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import AttemptRecord, Settled, Verdict
from jobmaster.model.reasons import HANDED_BACK, QUARANTINED
from jobmaster.model.states import JobStatus
from jobmaster.rules.overlap import asks_for_turn
from jobmaster.rules.recovery import is_hopeless, quarantine_error, recovered
from jobmaster.rules.storable import cleaned, cleaned_error
from jobmaster.stores.memory.occurrences import Occurrences
from jobmaster.stores.memory.rows import JobRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from jobmaster.model.job import Fence, Outcome, Start
    from jobmaster.stores.memory.rows import BucketRow

WAITING = (JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED)


class Runs(Occurrences):
    """The verbs of an owner about its runs."""

    # -- start

    async def start(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        async with self._owned(fence):
            return self._start_all(fence, starts)

    def _start_all(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        now = self._begin()
        return [self._start(fence, start, now) for start in starts]

    def _start(self, fence: Fence, start: Start, now: int) -> Verdict:
        row = self.jobs.get(start.key)
        if row is None:
            return self._start_new(fence, start, now)
        if row.status.is_final or not self._mine(row, fence.bucket, start.gen):
            return _verdict(row, yes=False)
        if row.status is JobStatus.PROCESSING:
            return _verdict(row, yes=True) if self._same_life(row, start) else self._start_again(fence, row, start, now)
        return self._start_waiting(fence, row, start, now)

    def _same_life(self, row: JobRow, start: Start) -> bool:
        return row.nonce == start.nonce

    def _start_new(self, fence: Fence, start: Start, now: int) -> Verdict:
        """No row: the message was the authority until now."""
        row = JobRow(
            key=start.key,
            envelope=start.envelope,
            payload=start.payload,
            status=JobStatus.QUEUED,
            due_us=start.due_us,
            gen=start.gen,
            bucket=fence.bucket,
            touched_us=now,
            attempts=start.attempt - 1,
        )
        return self._start_waiting(fence, self.jobs.insert(row), start, now)

    def _start_waiting(self, fence: Fence, row: JobRow, start: Start, now: int) -> Verdict:
        """Nobody is known to run it, but a dead process may have been seen to."""
        if start.key in self.tombstones:
            self._end(row, JobStatus.CANCELLED, now)
            return _verdict(row, yes=False)
        heard = self.blames.pop(start.key, None)
        if heard is not None and heard.reason:
            self._record_unnoted(row, heard)
            self.jobs.change(row, recoveries=row.recoveries + 1, suspect=True)
            if is_hopeless(row.recoveries, max_recoveries=self.rules.max_recoveries):
                error = quarantine_error(row.recoveries, heard.reason)
                self._end(row, JobStatus.FAILED, now, reason=QUARANTINED, error=error)
                return _verdict(row, yes=False)
        if asks_for_turn(start) and self._is_held_back(row, now):
            return _verdict(row, yes=False)
        return self._go(fence, row, start, now)

    def _start_again(self, fence: Fence, row: JobRow, start: Start, now: int) -> Verdict:
        """An earlier life started it and cannot run it any more: a recovery that stays in its bucket."""
        unheard = self.blames.get(row.key)
        blame = self._blame_on(row, fence.owner)
        after = recovered(
            status=row.status,
            at_most_once=row.envelope.at_most_once,
            recoveries=row.recoveries,
            tombstone=row.key in self.tombstones,
            blame=blame,
            max_recoveries=self.rules.max_recoveries,
        )
        if after.status.is_final:
            if unheard is not None:
                self.blames[row.key] = unheard
            self._recover(row, now, living=fence.owner)
            return _verdict(row, yes=False)
        self._record_lost(row, now, blame, fence.owner)
        self.jobs.change(row, recoveries=after.recoveries, suspect=True)
        return self._go(fence, row, start, now)

    def _go(self, fence: Fence, row: JobRow, start: Start, now: int) -> Verdict:
        runs = start.status is JobStatus.PROCESSING
        self.jobs.change(
            row,
            status=start.status,
            nonce=start.nonce,
            worker=fence.owner,
            touched_us=now,
            attempts=row.attempts + 1 if runs else row.attempts,
            started_us=(start.started_us or now) if runs else None,
        )
        return Verdict(yes=True, attempt=row.attempts if runs else row.attempts + 1, recoveries=row.recoveries)

    def _end(self, row: JobRow, status: JobStatus, now: int, **fields: object) -> None:
        """A final status that no run reported."""
        self.jobs.change(row, status=status, bucket=None, gen=row.gen + 1, touched_us=now, finished_us=now, **fields)
        self._tell(row)

    # -- finish

    async def finish(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        async with self._owned_to_finish(fence):
            return self._finish_all(fence, outcomes)

    def _owned_to_finish(self, fence: Fence) -> AbstractAsyncContextManager[BucketRow]:
        return self._owned(fence)

    def _finish_all(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        now = self._begin()
        return [Settled(self._finish(fence, outcome, now)) for outcome in outcomes]

    def _finish(self, fence: Fence, outcome: Outcome, now: int) -> bool:
        row = self.jobs.get(outcome.key)
        if row is None:
            self._apply(fence, self.jobs.insert(_row_of(fence, outcome, now)), outcome, now)
            return True
        if row.status.is_final:
            reported = (outcome.gen, fence.bucket, outcome.attempt)
            return (row.gen, row.bucket, row.attempts) == reported
        if not self._mine_to_finish(row, fence.bucket, outcome.gen):
            return False
        self._apply(fence, row, outcome, now)
        return True

    def _mine_to_finish(self, row: JobRow, bucket: int, gen: int) -> bool:
        return self._mine(row, bucket, gen)

    def _apply(self, fence: Fence, row: JobRow, outcome: Outcome, now: int) -> None:
        finished = outcome.finished_us or now
        reason, error = cleaned(outcome.reason), cleaned_error(outcome.error)
        self.blames.pop(row.key, None)
        self.jobs.change(
            row,
            worker=fence.owner,
            attempts=outcome.attempt,
            failures=outcome.failures,
            started_us=outcome.started_us,
            result=outcome.result,
            error=error,
            checkpoint=row.checkpoint if outcome.checkpoint is None else outcome.checkpoint,
        )
        if outcome.status in (JobStatus.FAILED, JobStatus.HELD_ON_MASTER) and (outcome.started_us is not None or error):
            failed = error is not None or outcome.status is JobStatus.FAILED
            status = JobStatus.FAILED if failed else JobStatus.HELD_ON_MASTER
            self._record_attempt(row, status, finished_us=finished, error=error, reason=reason)
        if outcome.status is JobStatus.HELD_ON_MASTER:
            self.jobs.change(row, envelope=outcome.envelope)
            if outcome.recovered:
                self.jobs.change(row, recoveries=row.recoveries + 1, suspect=True)
            self._hold(row, now, due_us=now + outcome.delay_us, reason=reason)
        else:
            self.jobs.change(row, status=outcome.status, finished_us=finished, touched_us=now, reason=reason)
            self._tell(row)

    # -- letting go

    async def release(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        async with self._owned(fence):
            self._release_all(fence, jobs)

    def _release_all(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        now = self._begin()
        for job in jobs:
            row = self.jobs.get(job.key)
            if row is None:
                row = self.jobs.insert(_row_of(fence, job, now))
            elif not (self._may_release(row) and self._mine(row, fence.bucket, job.gen)):
                continue
            self._hold(row, now, due_us=job.due_us, reason=cleaned(job.reason))

    def _may_release(self, row: JobRow) -> bool:
        return row.status in WAITING

    async def hand_back(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        async with self._owned(fence):
            self._hand_back_all(fence, jobs)

    def _hand_back_all(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        now = self._begin()
        for job in jobs:
            row = self.jobs.get(job.key)
            if row is None:
                row = self.jobs.insert(_row_of(fence, job, now))
            elif row.status.is_final or not self._mine(row, fence.bucket, job.gen):
                continue
            if job.checkpoint is not None:
                self.jobs.change(row, checkpoint=job.checkpoint)
            if job.started_us is not None:
                self._record_handed_back(fence, job, now)
            spent = row.attempts - 1 if row.status is JobStatus.PROCESSING else row.attempts
            self._hold(row, now, due_us=now, reason=cleaned(job.reason), attempts=spent)

    def _record_handed_back(self, fence: Fence, job: Outcome, now: int) -> None:
        """The run that a stop has ended: the next one has its number."""
        self.attempts.setdefault(job.key, {})[job.attempt] = AttemptRecord(
            key=job.key,
            attempt=job.attempt,
            status=JobStatus.HELD_ON_MASTER,
            worker=fence.owner,
            bucket=fence.bucket,
            started_us=job.started_us,
            finished_us=now,
            reason=HANDED_BACK,
        )


def _verdict(row: JobRow, *, yes: bool) -> Verdict:
    return Verdict(yes=yes, attempt=row.attempts, recoveries=row.recoveries)


def _row_of(fence: Fence, job: Outcome, now: int) -> JobRow:
    """The row of a job that only its message knew until now."""
    return JobRow(
        key=job.key,
        envelope=job.envelope,
        payload=job.payload,
        status=JobStatus.QUEUED,
        due_us=job.due_us,
        gen=job.gen,
        bucket=fence.bucket,
        touched_us=now,
        failures=job.failures,
    )
