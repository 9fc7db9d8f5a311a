"""What becomes of rows that their owner lost or lets go: *recover* and *hold* of docs/protocol.md.

All functions take rows that the transaction holds (`rows.states`), and change any number of them in one statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.reasons import TAKEN_BACK, WORKER_LOST
from jobmaster.rules.recovery import Testimony, final_error, lost_error
from jobmaster.stores.sql.job_rows import CANCELLED, FAILED, HELD, PROCESSING, State, encode_error
from jobmaster.stores.sql.lost_rows import after_loss, blame_on
from jobmaster.stores.sql.postgresql.rows import Change, tombstoned
from jobmaster.stores.sql.records import readable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Envelope
    from jobmaster.rules.recovery import Recovered
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

RECOVER = Change(
    ("status", "touched_us", "attempts", "recoveries", "reason", "error", "finished_us"),
    """status = excluded.status, bucket = NULL, gen = jm_job.gen + 1, nonce = NULL,
    touched_us = excluded.touched_us, suspect = 1, attempts = excluded.attempts, recoveries = excluded.recoveries,
    reason = excluded.reason, error = coalesce(excluded.error, jm_job.error), finished_us = excluded.finished_us""",
)
HOLD = Change(
    ("status", "due_us", "touched_us", "reason", "attempts", "checkpoint", "finished_us"),
    """status = excluded.status, bucket = NULL, gen = jm_job.gen + 1, nonce = NULL, due_us = excluded.due_us,
    touched_us = excluded.touched_us, reason = excluded.reason, attempts = excluded.attempts,
    checkpoint = coalesce(excluded.checkpoint, jm_job.checkpoint), finished_us = excluded.finished_us""",
)
BLAMES = "SELECT job_id, reason, worker, created_us FROM jm_blame WHERE job_id = ANY($1::uuid[]) AND counted = 0"
COUNT_BLAMES = "UPDATE jm_blame SET counted = 1 WHERE job_id = ANY($1::uuid[]) AND counted = 0"

ADD_ATTEMPTS = (
    "INSERT INTO jm_attempt (job_id, attempt, status, worker, bucket, started_us, finished_us, reason, error)"
)
ATTEMPT_TYPES = ("uuid", "int", "int", "bigint", "bigint", "bigint", "bigint", "text", "bytea")
ON_REPEATED_ATTEMPT = """
ON CONFLICT (job_id, attempt) DO UPDATE SET status = excluded.status, worker = excluded.worker,
    bucket = excluded.bucket, started_us = excluded.started_us, finished_us = excluded.finished_us,
    reason = excluded.reason, error = excluded.error
"""

ENVELOPES = "SELECT payload FROM jm_job WHERE id = ANY($1::uuid[])"


class Held(NamedTuple):
    """A row to be let go, and how."""

    row: State
    due_us: int
    cancelled: bool
    """A tombstone exists: it ends instead of waiting."""
    reason: str = ""
    attempts: int | None = None
    """None: as the row has them."""
    checkpoint: bytes | None = None
    """None: as the row has it."""


class Unnoted(NamedTuple):
    """A run that only its process knew of, and its supervisor, with its number."""

    key: JobKey
    attempt: int
    bucket: int | None
    heard: Testimony


async def recover(transaction: Transaction, rows: Sequence[State], *, living: Collection[int] = ()) -> None:
    """What becomes of rows in a bucket status whose owner is gone.

    `living`: workers that are there to say that they do not have what is theirs. Nobody died, so nothing is counted.
    """
    if not rows:
        return
    keys, most = [row.key for row in rows], transaction.rules.max_recoveries
    stones = await tombstoned(transaction, keys)
    blames = await blames_on(transaction, keys)
    changes: list[Row] = []
    ended = []
    lost = []
    unnoted = []
    for found in rows:
        blame = blame_on(found, blames, living)
        after = after_loss(found, tombstone=found.key in stones, blame=blame, max_recoveries=most)
        row = found
        if row.status == PROCESSING:
            lost.append((row, blame))
        elif blame:
            row = found._replace(attempts=found.attempts + 1)
            unnoted.append(Unnoted(row.key, row.attempts, row.bucket, blames[row.key]))
        changes.append(_changed_row(transaction, row, after, blame))
        if after.status.is_final:
            ended.append(row.key)
    await record_lost(transaction, lost, living)
    await record_unnoted(transaction, unnoted)
    await RECOVER.apply(transaction, changes)
    await count_blames(transaction, blames)
    await tell_ended(transaction, ended)
    if len(ended) < len(rows):
        transaction.topics.add("held")


def _changed_row(transaction: Transaction, row: State, after: Recovered, blame: str | None) -> Row:
    now_us, status = transaction.now_us, after.status.value
    error = encode_error(final_error(after, blame or ""))
    ended_us = now_us if after.status.is_final else None
    return (row.key, status, now_us, row.attempts, after.recoveries, after.reason, error, ended_us)


async def record_lost(
    transaction: Transaction, lost: Sequence[tuple[State, str | None]], living: Collection[int]
) -> None:
    """The attempts that were running when their worker vanished, each with what it is blamed for."""
    records = [
        (
            row.key, row.attempts, FAILED, row.worker, row.bucket, row.started_us, transaction.now_us,
            TAKEN_BACK if row.worker in living and not blame else WORKER_LOST,
            encode_error(lost_error(blame)) if blame else None,
        )
        for row, blame in lost
    ]  # fmt: skip
    await transaction.insert(ADD_ATTEMPTS, ATTEMPT_TYPES, records, ON_REPEATED_ATTEMPT)


async def record_unnoted(transaction: Transaction, runs: Sequence[Unnoted]) -> None:
    """They were attempts all the same."""
    records = [
        (
            run.key, run.attempt, FAILED, run.heard.worker, run.bucket, None, run.heard.at_us, WORKER_LOST,
            encode_error(lost_error(run.heard.reason)),
        )
        for run in runs
    ]  # fmt: skip
    await transaction.insert(ADD_ATTEMPTS, ATTEMPT_TYPES, records, ON_REPEATED_ATTEMPT)


async def blames_on(transaction: Transaction, keys: Sequence[JobKey]) -> dict[JobKey, Testimony]:
    """Evidence that is not counted yet, by job."""
    found = await transaction.rows(BLAMES, list(keys)) if keys else ()
    return {row[0]: Testimony(*row[1:]) for row in found}


async def count_blames(transaction: Transaction, keys: Iterable[JobKey]) -> None:
    """Evidence counts once."""
    counted = list(keys)
    if counted:
        await transaction.changed(COUNT_BLAMES, counted)


async def hold_rows(transaction: Transaction, held: Sequence[Held]) -> None:
    """hold(row): one that was cancelled ends, the others wait on the master at a new assignment number."""
    now_us = transaction.now_us
    changes = [
        (
            one.row.key, CANCELLED if one.cancelled else HELD, one.due_us, now_us, one.reason,
            one.row.attempts if one.attempts is None else one.attempts, one.checkpoint,
            now_us if one.cancelled else None,
        )
        for one in held
    ]  # fmt: skip
    await HOLD.apply(transaction, changes)
    ended = [one.row.key for one in held if one.cancelled]
    await tell_ended(transaction, ended)
    if len(ended) < len(held):
        transaction.topics.add("held")


async def tell_ended(transaction: Transaction, keys: Sequence[JobKey]) -> None:
    """Signal the clients that wait for these jobs, which have just ended without a run's outcome."""
    if keys:
        for (payload,) in await transaction.rows(ENVELOPES, list(keys)):
            tell_client(transaction, readable(payload))


def tell_client(transaction: Transaction, envelope: Envelope | None) -> None:
    """Signal the client that waits for this job, if one does."""
    if envelope is not None and envelope.reply_to:
        transaction.topics.add(f"client:{envelope.reply_to}")
