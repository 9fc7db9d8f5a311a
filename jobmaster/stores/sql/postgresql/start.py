"""Guarded starts and early rows (R10, R11), decided one by one over locked rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import Verdict
from jobmaster.model.reasons import QUARANTINED
from jobmaster.model.states import JobStatus
from jobmaster.rules.recovery import is_hopeless, quarantine_error
from jobmaster.stores.sql.job_rows import CANCELLED, FAILED, PROCESSING, State, encode_error, signed
from jobmaster.stores.sql.lost_rows import after_loss, blame_on
from jobmaster.stores.sql.new_rows import FirstStart, first_start
from jobmaster.stores.sql.postgresql.messages import keep, remove
from jobmaster.stores.sql.postgresql.owning import own
from jobmaster.stores.sql.postgresql.recover import (
    Unnoted,
    blames_on,
    count_blames,
    record_lost,
    record_unnoted,
    recover,
    tell_client,
)
from jobmaster.stores.sql.postgresql.rows import Change, insert_absent, states, tombstoned
from jobmaster.stores.sql.postgresql.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Fence, Start
    from jobmaster.rules.recovery import Testimony
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

GO = Change(
    ("status", "nonce", "worker", "touched_us", "attempts", "started_us", "recoveries", "suspect"),
    """status = excluded.status, nonce = excluded.nonce, worker = excluded.worker, touched_us = excluded.touched_us,
    attempts = excluded.attempts, started_us = excluded.started_us, recoveries = excluded.recoveries,
    suspect = excluded.suspect""",
)
END = Change(
    ("status", "touched_us", "attempts", "recoveries", "reason", "error"),
    """status = excluded.status, bucket = NULL, gen = jm_job.gen + 1, touched_us = excluded.touched_us,
    finished_us = excluded.touched_us, attempts = excluded.attempts, recoveries = excluded.recoveries,
    reason = excluded.reason, error = coalesce(excluded.error, jm_job.error)""",
)


async def start(transaction: Transaction, fence: Fence, starts: Sequence[Start], *, removing: bool) -> list[Verdict]:
    """R10, R11; `removing`: and the messages leave that are not needed any more, in the same transaction."""
    await own(transaction, fence)
    if removing:
        await keep(transaction, starts)  # before the rows, as a cancel takes them
    batch = _Batch(transaction, fence)
    await batch.turns.hold(transaction, starts)
    left = list(starts)
    while left:
        left = await batch.decide(left)
    await batch.write()
    await batch.turns.write(transaction, starts)
    verdicts = [batch.verdicts[one.key] for one in starts]
    if removing:
        pairs = zip(starts, verdicts, strict=True)
        await remove(transaction, [one for one, verdict in pairs if one.take_over or not verdict.yes])
    return verdicts


class _Batch:
    """One batch of starts: what is decided, and what is still to be written."""

    def __init__(self, transaction: Transaction, fence: Fence) -> None:
        self._transaction = transaction
        self._fence = fence
        self._living = (fence.owner,)
        self._rows: dict[JobKey, State] = {}
        self._stones: set[JobKey] = set()
        self._blames: dict[JobKey, Testimony] = {}
        self._go: list[Row] = []
        self._end: list[Row] = []
        self._lost: list[tuple[State, str | None]] = []
        self._recover: list[State] = []
        self._counted: list[JobKey] = []
        self._unnoted: list[Unnoted] = []
        self.turns = Turns()
        self.verdicts: dict[JobKey, Verdict] = {}

    async def decide(self, starts: Sequence[Start]) -> list[Start]:
        """Decide over these; returned are those whose rows appeared meanwhile, to be decided again."""
        transaction = self._transaction
        keys = [one.key for one in starts]
        rows = self._rows = await states(transaction, self.turns.others(keys))
        self._stones |= await tombstoned(transaction, keys)
        self._blames.update(await blames_on(transaction, keys))
        absent = []
        for one in starts:
            row = rows.get(one.key)
            if row is None:
                absent.append(one)
            else:
                self.verdicts[one.key] = self._decide_over(row, one)
        # No row: the message was the authority until now.
        news = {one.key: self._first(one) for one in absent}
        inserted = await insert_absent(transaction, [new.row for new in news.values()])
        for one in absent:
            if one.key in inserted:
                self._inserted(one, news[one.key])
        return [one for one in absent if one.key not in inserted]

    async def write(self) -> None:
        """Write what was decided over rows that were there."""
        await record_lost(self._transaction, self._lost, self._living)
        await record_unnoted(self._transaction, self._unnoted)
        await GO.apply(self._transaction, self._go)
        await END.apply(self._transaction, self._end)
        await recover(self._transaction, self._recover, living=self._living)
        await count_blames(self._transaction, self._counted)

    def _decide_over(self, row: State, start: Start) -> Verdict:
        if row.final or not row.mine(self._fence.bucket, start.gen):
            return Verdict(yes=False, attempt=row.attempts, recoveries=row.recoveries)
        if row.status == PROCESSING:
            if row.nonce == signed(start.nonce):
                return Verdict(yes=True, attempt=row.attempts, recoveries=row.recoveries)
            return self._start_again(row, start)
        return self._start_waiting(row, start)

    def _first(self, start: Start) -> FirstStart:
        return first_start(
            start,
            self._fence,
            nonce=signed(start.nonce),
            cancelled=start.key in self._stones,
            heard=self._blames.get(start.key),
            max_recoveries=self._transaction.rules.max_recoveries,
            now_us=self._transaction.now_us,
        )

    def _inserted(self, start: Start, new: FirstStart) -> None:
        self.verdicts[start.key] = new.verdict
        if new.verdict.recoveries:
            self._counted.append(start.key)
            heard = self._blames[start.key]
            self._unnoted.append(Unnoted(start.key, start.attempt, self._fence.bucket, heard))
        if not new.verdict.yes:
            tell_client(self._transaction, start.envelope)

    def _start_waiting(self, row: State, start: Start) -> Verdict:
        """Nobody is known to run it, but a dead process may have been seen to."""
        if start.key in self._stones:
            return self._ended(row, start, CANCELLED, recoveries=row.recoveries)
        heard = self._blames.get(start.key)
        blame = heard.reason if heard else ""
        recoveries = row.recoveries + 1 if blame else row.recoveries
        if heard and blame:
            row = row._replace(attempts=row.attempts + 1)
            self._unnoted.append(Unnoted(row.key, row.attempts, row.bucket, heard))
            self._counted.append(start.key)
            if is_hopeless(recoveries, max_recoveries=self._transaction.rules.max_recoveries):
                return self._ended(row, start, FAILED, recoveries=recoveries, blame=blame)
        if self.turns.holds_back(row, start, self._rows, self._transaction.now_us):
            return Verdict(yes=False, attempt=row.attempts, recoveries=row.recoveries)
        return self._goes(row, start, recoveries=recoveries, suspect=bool(row.suspect or blame))

    def _start_again(self, row: State, start: Start) -> Verdict:
        """An earlier life started it and cannot run it any more: a recovery that stays in its bucket."""
        blame = blame_on(row, self._blames, self._living)
        most = self._transaction.rules.max_recoveries
        after = after_loss(row, tombstone=row.key in self._stones, blame=blame, max_recoveries=most)
        if after.status.is_final:
            self._recover.append(row)
            return Verdict(yes=False, attempt=row.attempts, recoveries=after.recoveries)
        self._lost.append((row, blame))
        self._counted.append(row.key)
        return self._goes(row, start, recoveries=after.recoveries, suspect=True)

    def _goes(self, row: State, start: Start, *, recoveries: int, suspect: bool) -> Verdict:
        runs = start.status is JobStatus.PROCESSING
        now_us = self._transaction.now_us
        started_us = (start.started_us or now_us) if runs else None
        attempts = row.attempts + 1 if runs else row.attempts
        self._go.append(
            (
                row.key, start.status.value, signed(start.nonce), self._fence.owner, now_us, attempts, started_us,
                recoveries, int(suspect),
            )
        )  # fmt: skip
        return Verdict(yes=True, attempt=row.attempts + 1, recoveries=recoveries)

    def _ended(self, row: State, start: Start, status: int, *, recoveries: int, blame: str = "") -> Verdict:
        reason = QUARANTINED if blame else ""
        error = encode_error(quarantine_error(recoveries, blame)) if blame else None
        self._end.append((row.key, status, self._transaction.now_us, row.attempts, recoveries, reason, error))
        tell_client(self._transaction, start.envelope)
        return Verdict(yes=False, attempt=row.attempts, recoveries=recoveries)
