"""What becomes of rows that their owner lost or lets go: *recover* and *hold* of docs/protocol.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.reasons import TAKEN_BACK, WORKER_LOST
from jobmaster.model.states import JobStatus
from jobmaster.rules.recovery import Testimony, final_error, lost_error
from jobmaster.stores.sql.job_rows import HELD, PROCESSING, State, encode_error
from jobmaster.stores.sql.lost_rows import after_loss, blame_on
from jobmaster.stores.sql.records import readable
from jobmaster.stores.sql.sqlite.rows import tombstoned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Envelope
    from jobmaster.rules.recovery import Recovered
    from jobmaster.stores.sql.sqlite.transaction import Transaction

RECOVER = """
UPDATE jm_job SET status = ?, bucket = NULL, gen = gen + 1, nonce = NULL, touched_us = ?, suspect = 1,
    attempts = ?, recoveries = ?, reason = ?, error = coalesce(?, error), finished_us = ? WHERE id = ?
"""
HOLD = """
UPDATE jm_job SET status = ?, bucket = NULL, gen = gen + 1, nonce = NULL, due_us = ?, touched_us = ?, reason = ?,
    attempts = ?, checkpoint = coalesce(?, checkpoint), finished_us = ? WHERE id = ?
"""
BLAMES = "SELECT job_id, reason, worker, created_us FROM jm_blame WHERE job_id IN ({keys}) AND counted = 0"
COUNT_BLAMES = "UPDATE jm_blame SET counted = 1 WHERE job_id = ? AND counted = 0"
ANY_BLAME = "SELECT EXISTS (SELECT 1 FROM jm_blame LIMIT 1)"

ADD_ATTEMPT = """
INSERT INTO jm_attempt (job_id, attempt, status, worker, bucket, started_us, finished_us, reason, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job_id, attempt) DO UPDATE SET status = excluded.status, worker = excluded.worker,
    bucket = excluded.bucket, started_us = excluded.started_us, finished_us = excluded.finished_us,
    reason = excluded.reason, error = excluded.error
"""

ENVELOPES = "SELECT id, payload FROM jm_job WHERE id IN ({keys})"


def recover(transaction: Transaction, rows: Sequence[State], *, living: Collection[int] = ()) -> None:
    """What becomes of rows in a bucket status whose owner is gone.

    `living`: workers that are there to say that they do not have what is theirs. Nobody died, so nothing is counted.
    """
    if not rows:
        return
    keys, most = [row.key for row in rows], transaction.rules.max_recoveries
    stones = tombstoned(transaction, keys)
    blames = blames_on(transaction, keys)
    ended = []
    for found in rows:
        blame = blame_on(found, blames, living)
        after = after_loss(found, tombstone=found.key in stones, blame=blame, max_recoveries=most)
        row = found
        if row.status == PROCESSING:
            record_lost(transaction, row, blame, living)
        elif blame:
            row = record_unnoted(transaction, found, blames[found.key])
        _write(transaction, row, after, blame)
        if after.status.is_final:
            ended.append(row.key)
    count_blames(transaction, blames)
    tell_ended(transaction, ended)
    if len(ended) < len(rows):
        transaction.topics.add("held")


def _write(transaction: Transaction, row: State, after: Recovered, blame: str | None) -> None:
    now_us = transaction.now_us
    transaction.execute(
        RECOVER,
        (
            after.status.value,
            now_us,
            row.attempts,
            after.recoveries,
            after.reason,
            encode_error(final_error(after, blame or "")),
            now_us if after.status.is_final else None,
            row.key,
        ),
    )


def record_lost(transaction: Transaction, row: State, blame: str | None, living: Collection[int]) -> None:
    """The attempt that was running when its worker vanished."""
    error = encode_error(lost_error(blame)) if blame else None
    reason = TAKEN_BACK if row.worker in living and not blame else WORKER_LOST
    transaction.execute(
        ADD_ATTEMPT,
        (
            row.key, row.attempts, JobStatus.FAILED.value, row.worker, row.bucket, row.started_us, transaction.now_us,
            reason, error,
        ),
    )  # fmt: skip


def record_unnoted(transaction: Transaction, row: State, heard: Testimony) -> State:
    """A run that only its process knew of, and its supervisor, was an attempt all the same: the row with it."""
    record_unnoted_of(transaction, row.key, row.attempts + 1, row.bucket, heard)
    return row._replace(attempts=row.attempts + 1)


def record_unnoted_of(
    transaction: Transaction, key: JobKey, attempt: int, bucket: int | None, heard: Testimony
) -> None:
    """The same of a job that may have no row yet."""
    error = encode_error(lost_error(heard.reason))
    values = (key, attempt, JobStatus.FAILED.value, heard.worker, bucket, None, heard.at_us, WORKER_LOST, error)
    transaction.execute(ADD_ATTEMPT, values)


def blames_on(transaction: Transaction, keys: Sequence[JobKey]) -> dict[JobKey, Testimony]:
    """Evidence that is not counted yet, by job."""
    if not transaction.rows(ANY_BLAME)[0][0]:
        return {}
    return {key: Testimony(*said) for key, *said in transaction.by_keys(BLAMES, keys)}


def count_blames(transaction: Transaction, keys: Iterable[JobKey]) -> None:
    """Evidence counts once."""
    for key in keys:
        transaction.execute(COUNT_BLAMES, (key,))


def hold_row(
    transaction: Transaction,
    row: State,
    *,
    due_us: int,
    cancelled: bool,
    reason: str = "",
    attempts: int | None = None,
    checkpoint: bytes | None = None,
) -> None:
    """hold(row): a tombstone (`cancelled`) ends it, else it waits on the master at a new assignment number."""
    now_us = transaction.now_us
    spent = row.attempts if attempts is None else attempts
    status = JobStatus.CANCELLED.value if cancelled else HELD
    ended = now_us if cancelled else None
    transaction.execute(HOLD, (status, due_us, now_us, reason, spent, checkpoint, ended, row.key))
    if cancelled:
        tell_ended(transaction, [row.key])
    else:
        transaction.topics.add("held")


def tell_ended(transaction: Transaction, keys: Sequence[JobKey]) -> None:
    """Signal the clients that wait for these jobs, which have just ended without a run's outcome."""
    for _, payload in transaction.by_keys(ENVELOPES, keys):
        tell_client(transaction, readable(payload))


def tell_client(transaction: Transaction, envelope: Envelope | None) -> None:
    """Signal the client that waits for this job, if one does."""
    if envelope is not None and envelope.reply_to:
        transaction.topics.add(f"client:{envelope.reply_to}")
