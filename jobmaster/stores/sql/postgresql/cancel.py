"""What people do to a job: cancel (R19), give it another time, run it again.

Whether anybody can have read a message hangs on its bucket's row: that row is held shared while it is judged, so that
nobody adopts the bucket in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.job import CancelReply, unreadable_envelope
from jobmaster.model.states import CancelOutcome
from jobmaster.rules.expiry import once_more, put_off
from jobmaster.stores.sql.job_rows import ASSIGNED, CANCELLED, HELD, PROCESSING, QUEUED, State, job_row
from jobmaster.stores.sql.postgresql.numbering import next_seq
from jobmaster.stores.sql.postgresql.recover import tell_client, tell_ended
from jobmaster.stores.sql.postgresql.rows import insert_jobs, states
from jobmaster.stores.sql.records import readable

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.stores.sql.postgresql.transaction import Transaction

STONE = "SELECT answer FROM jm_tombstone WHERE job_id = $1"
# Renewals tell tombstones by number, and numbers may commit out of their order: the lock says that one is on its way
# (leases.py waits for those before it moves on). It is taken before the number is drawn.
BURY = """
WITH under_way AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(4242, 3))
INSERT INTO jm_tombstone (job_id, created_us, answer)
SELECT $1::uuid, $2::bigint, $3::text FROM under_way ON CONFLICT (job_id) DO NOTHING
"""
UNBURY = "DELETE FROM jm_tombstone WHERE job_id = $1"
END = """
UPDATE jm_job SET status = 8, bucket = NULL, gen = gen + 1, touched_us = $2, finished_us = $2 WHERE id = $1
"""
OWNER = "SELECT owner FROM jm_bucket WHERE id = $1"

BUCKETS_OF = "SELECT DISTINCT bucket FROM jm_message WHERE job_id = $1"
KEEP_BUCKETS = "SELECT id FROM jm_bucket WHERE id = ANY($1::bigint[]) ORDER BY id FOR SHARE"
MESSAGES_OF = """
SELECT m.seq, m.bucket, m.due_us, m.verify, m.at_most_once, m.payload, b.owner,
    b.owner IS NULL AND b.clean = 1 AND b.status = 1
FROM jm_message m LEFT JOIN jm_bucket b ON b.id = m.bucket WHERE m.job_id = $1 FOR UPDATE OF m
"""
TAKE_AWAY = "DELETE FROM jm_message WHERE job_id = $1"
MOVE = f"""
WITH old AS (DELETE FROM jm_message WHERE seq = $1 RETURNING *)
INSERT INTO jm_message
    (seq, bucket, job_id, gen, due_us, later, verify, at_most_once, task, custom_id, created_us, payload)
SELECT {next_seq("bucket")}, bucket, job_id, gen, $2::bigint, CASE WHEN $2::bigint > $3::bigint THEN 1 ELSE 0 END,
    verify, at_most_once, task, custom_id, created_us, payload FROM old
"""

RESCHEDULE = "UPDATE jm_job SET due_us = $2, touched_us = $3, payload = $4, expires_us = $5 WHERE id = $1"
EXPIRY = "SELECT payload, expires_us, trigger_kind FROM jm_job WHERE id = $1"
REQUEUE = """
UPDATE jm_job SET status = 2, bucket = NULL, worker = NULL, gen = gen + 1, nonce = NULL, due_us = $2, touched_us = $3,
    failures = 0, recoveries = 0, suspect = 0, started_us = NULL, finished_us = NULL, result = NULL,
    result_until_us = NULL, error = NULL, reason = '', payload = $4, expires_us = $5
WHERE id = $1
"""

CERTAIN = "certain"
STOPPABLE = (HELD, ASSIGNED, QUEUED)


class Waiting(NamedTuple):
    """A message of a job without a row, with what its bucket's row says."""

    seq: int
    bucket: int
    due_us: int
    verify: int
    at_most_once: int
    payload: bytes
    owner: int | None
    left_clean: bool | None

    def unread(self, transaction: Transaction) -> bool:
        """Nobody can have it in memory: its bucket has no owner, or no read looks so far ahead."""
        return bool(self.left_clean) or self.due_us > transaction.now_us + transaction.rules.window_us

    def cannot_start(self, transaction: Transaction) -> bool:
        """Nobody can have it, or its start is a guarded write that a row decides."""
        return bool(self.verify or self.at_most_once) or self.unread(transaction)


async def cancel(transaction: Transaction, key: JobKey) -> CancelReply:
    """R19."""
    while True:
        messages = await waiting_messages(transaction, key)
        row = (await states(transaction, [key])).get(key)
        if row is not None:
            return await _cancel_row(transaction, row)
        reply = await _cancel_messages(transaction, key, messages)
        if reply is not None:
            return reply


async def _cancel_row(transaction: Transaction, row: State) -> CancelReply:
    if row.final:
        return await _answer_again(transaction, row)
    certain = row.status == HELD or (row.status in STOPPABLE and bool(row.at_most_once))
    owner = None if row.bucket is None else await transaction.value(OWNER, row.bucket)
    await _bury(transaction, row.key, certain=certain)
    if row.status != PROCESSING:
        await transaction.changed(END, row.key, transaction.now_us)
        await tell_ended(transaction, [row.key])
    return CancelReply(CancelOutcome.CANCELLED) if certain else _requested(transaction, owner)


async def _cancel_messages(transaction: Transaction, key: JobKey, messages: list[Waiting]) -> CancelReply | None:
    """No row: the messages are the authority, if there are any. None: a row has appeared meanwhile."""
    certain = bool(messages) and all(message.cannot_start(transaction) for message in messages)
    if not certain:
        await _bury(transaction, key, certain=False)
        return _requested(transaction, messages[0].owner if messages else None)
    first, now_us = messages[0], transaction.now_us
    envelope = readable(first.payload)
    row = job_row(
        key,
        envelope or unreadable_envelope(first.due_us),
        first.payload,
        status=CANCELLED,
        due_us=first.due_us,
        now_us=now_us,
        gen=1,
        finished_us=now_us,
    )
    if not await insert_jobs(transaction, [row]):
        return None
    await _bury(transaction, key, certain=True)
    await transaction.changed(TAKE_AWAY, key)
    tell_client(transaction, envelope)
    return CancelReply(CancelOutcome.CANCELLED)


async def waiting_messages(transaction: Transaction, key: JobKey) -> list[Waiting]:
    """The job's messages, held together with the rows of their buckets. Reads the clock."""
    found: list[Waiting] = []
    if transaction.standalone:
        while True:
            buckets = {row[0] for row in await transaction.rows(BUCKETS_OF, key)}
            await transaction.rows(KEEP_BUCKETS, list(buckets))
            found = [Waiting(*row) for row in await transaction.rows(MESSAGES_OF, key)]
            if buckets.issuperset(message.bucket for message in found):
                break  # else it was handed over to another bucket between the two looks
    await transaction.tick()
    return found


async def _answer_again(transaction: Transaction, row: State) -> CancelReply:
    answer = await transaction.value(STONE, row.key)
    if row.status != CANCELLED or answer is None:
        return CancelReply(CancelOutcome.TOO_LATE)
    if answer == CERTAIN:
        return CancelReply(CancelOutcome.CANCELLED)
    return CancelReply(CancelOutcome.REQUESTED, row.worker)


async def _bury(transaction: Transaction, key: JobKey, *, certain: bool) -> None:
    await transaction.changed(BURY, key, transaction.now_us, CERTAIN if certain else "")


def _requested(transaction: Transaction, owner: int | None) -> CancelReply:
    transaction.topics.add("workers" if owner is None else f"worker:{owner}")
    return CancelReply(CancelOutcome.REQUESTED, owner)


async def reschedule(transaction: Transaction, key: JobKey, due_us: int) -> bool:
    """A held row, or an unread message, gets a new due time."""
    messages = await waiting_messages(transaction, key)
    row = (await states(transaction, [key])).get(key)
    if row is not None:
        if row.status != HELD:
            return False
        stored, expires_us, trigger = (await transaction.rows(EXPIRY, key))[0]
        payload, expires_us = put_off(stored, expires_us, trigger, due_us)
        await transaction.changed(RESCHEDULE, key, due_us, transaction.now_us, payload, expires_us)
        transaction.topics.add("held")
        return True
    if not messages or not all(message.unread(transaction) for message in messages):
        return False
    for message in messages:
        # Numbered anew: the owner's cursor may have passed the old number.
        await transaction.changed(MOVE, message.seq, due_us, transaction.now_us)
        transaction.topics.add(f"bucket:{message.bucket}")
    return True


async def requeue(transaction: Transaction, key: JobKey, due_us: int | None) -> bool:
    """A person's retry of a job that has ended."""
    row = (await states(transaction, [key])).get(key)
    if row is None or not row.final:
        return False
    now_us = await transaction.tick()
    await transaction.changed(UNBURY, key)
    due = now_us if due_us is None else due_us
    stored, expires_us, _ = (await transaction.rows(EXPIRY, key))[0]
    payload, expires_us = once_more(stored, expires_us, due)
    await transaction.changed(REQUEUE, key, due, now_us, payload, expires_us)
    transaction.topics.add("held")
    return True
