"""Guarded starts and early rows (R10, R11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import Verdict
from jobmaster.model.reasons import QUARANTINED
from jobmaster.model.states import JobStatus
from jobmaster.rules.overlap import asks_for_turn
from jobmaster.rules.recovery import is_hopeless, quarantine_error
from jobmaster.stores.sql.job_rows import CANCELLED, FAILED, PROCESSING, State, encode_error, signed
from jobmaster.stores.sql.lost_rows import after_loss, blame_on
from jobmaster.stores.sql.new_rows import first_start
from jobmaster.stores.sql.sqlite.owning import own
from jobmaster.stores.sql.sqlite.read import remove
from jobmaster.stores.sql.sqlite.recover import (
    blames_on,
    count_blames,
    record_lost,
    record_unnoted,
    record_unnoted_of,
    recover,
    tell_client,
)
from jobmaster.stores.sql.sqlite.rows import INSERT_JOBS, states, tombstoned
from jobmaster.stores.sql.sqlite.turns import turn_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Fence, Start
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

GO = """
UPDATE jm_job SET status = ?, nonce = ?, worker = ?, touched_us = ?, attempts = ?, started_us = ?, recoveries = ?,
    suspect = ?
WHERE id = ?
"""
END = """
UPDATE jm_job SET status = ?, bucket = NULL, gen = gen + 1, touched_us = ?, finished_us = ?, attempts = ?,
    recoveries = ?, reason = ?, error = coalesce(?, error) WHERE id = ?
"""


def start(transaction: Transaction, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
    """R10, R11."""
    own(transaction, fence)
    keys = [one.key for one in starts]
    batch = _Batch(transaction, fence, keys)
    verdicts = [batch.decide(one) for one in starts]
    transaction.insert(INSERT_JOBS, batch.new)
    return verdicts


def take_over(transaction: Transaction, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
    """R10; then the messages leave that are not needed any more."""
    verdicts = start(transaction, fence, starts)
    pairs = zip(starts, verdicts, strict=True)
    remove(transaction, fence.bucket, [s.seq for s, v in pairs if s.seq is not None and (s.take_over or not v.yes)])
    return verdicts


class _Batch:
    """One batch of starts: what was there before, and the rows to insert."""

    def __init__(self, transaction: Transaction, fence: Fence, keys: Sequence[JobKey]) -> None:
        self._transaction = transaction
        self._fence = fence
        self._rows = states(transaction, keys)
        self._stones = tombstoned(transaction, keys)
        self._blames = blames_on(transaction, keys)
        self.new: list[Row] = []

    def decide(self, start: Start) -> Verdict:
        """The verdict on one start, and its effect."""
        row = self._rows.get(start.key)
        if row is None:
            return self._insert(start)
        if row.final or not row.mine(self._fence.bucket, start.gen):
            return Verdict(yes=False, attempt=row.attempts, recoveries=row.recoveries)
        if row.status == PROCESSING:
            if row.nonce == signed(start.nonce):
                return Verdict(yes=True, attempt=row.attempts, recoveries=row.recoveries)
            return self._start_again(row, start)
        return self._start_waiting(row, start)

    def _insert(self, start: Start) -> Verdict:
        """No row: the message was the authority until now."""
        transaction, heard = self._transaction, self._blames.get(start.key)
        row, verdict = first_start(
            start,
            self._fence,
            nonce=signed(start.nonce),
            cancelled=start.key in self._stones,
            heard=heard,
            max_recoveries=transaction.rules.max_recoveries,
            now_us=transaction.now_us,
        )
        if heard and verdict.recoveries:
            record_unnoted_of(transaction, start.key, start.attempt, self._fence.bucket, heard)
            count_blames(transaction, [start.key])
        if verdict.yes:
            self.new.append(row)
        else:
            tell_client(transaction, start.envelope)
            transaction.insert(INSERT_JOBS, [row])
        return verdict

    def _start_waiting(self, row: State, start: Start) -> Verdict:
        """Nobody is known to run it, but a dead process may have been seen to."""
        if start.key in self._stones:
            return self._end(row, start, CANCELLED, recoveries=row.recoveries)
        heard = self._blames.get(start.key)
        blame = heard.reason if heard else ""
        recoveries = row.recoveries + 1 if blame else row.recoveries
        if heard and blame:
            row = record_unnoted(self._transaction, row, heard)
            count_blames(self._transaction, [start.key])
            if is_hopeless(recoveries, max_recoveries=self._transaction.rules.max_recoveries):
                return self._end(row, start, FAILED, recoveries=recoveries, blame=blame)
        if asks_for_turn(start):
            told = turn_of(self._transaction, start)
            if told.cancelled in self._rows:  # it may be asked about next
                self._rows |= states(self._transaction, [told.cancelled])
                self._stones |= tombstoned(self._transaction, [told.cancelled])
            if told.is_held_back:
                return Verdict(yes=False, attempt=row.attempts, recoveries=row.recoveries)
        return self._go(row, start, recoveries=recoveries, suspect=bool(row.suspect or blame))

    def _start_again(self, row: State, start: Start) -> Verdict:
        """An earlier life started it and cannot run it any more: a recovery that stays in its bucket."""
        living = (self._fence.owner,)
        blame = blame_on(row, self._blames, living)
        most = self._transaction.rules.max_recoveries
        after = after_loss(row, tombstone=row.key in self._stones, blame=blame, max_recoveries=most)
        if after.status.is_final:
            recover(self._transaction, [row], living=living)
            return Verdict(yes=False, attempt=row.attempts, recoveries=after.recoveries)
        record_lost(self._transaction, row, blame, living)
        count_blames(self._transaction, [row.key])
        return self._go(row, start, recoveries=after.recoveries, suspect=True)

    def _go(self, row: State, start: Start, *, recoveries: int, suspect: bool) -> Verdict:
        runs = start.status is JobStatus.PROCESSING
        attempts = row.attempts + 1 if runs else row.attempts
        now_us = self._transaction.now_us
        started_us = (start.started_us or now_us) if runs else None
        self._transaction.execute(
            GO,
            (
                start.status.value, signed(start.nonce), self._fence.owner, now_us, attempts, started_us, recoveries,
                suspect,
                row.key,
            ),
        )  # fmt: skip
        return Verdict(yes=True, attempt=row.attempts + 1, recoveries=recoveries)

    def _end(self, row: State, start: Start, status: int, *, recoveries: int, blame: str = "") -> Verdict:
        now_us = self._transaction.now_us
        reason = QUARANTINED if blame else ""
        error = encode_error(quarantine_error(recoveries, blame)) if blame else None
        self._transaction.execute(END, (status, now_us, now_us, row.attempts, recoveries, reason, error, row.key))
        tell_client(self._transaction, start.envelope)
        return Verdict(yes=False, attempt=row.attempts, recoveries=recoveries)
