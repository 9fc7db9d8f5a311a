"""What people do to a job: cancel (R19), give it another time, run it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.job import CancelReply, unreadable_envelope
from jobmaster.model.states import CancelOutcome
from jobmaster.rules.expiry import once_more, put_off
from jobmaster.stores.sql.job_rows import ASSIGNED, CANCELLED, HELD, PROCESSING, QUEUED, State, job_row
from jobmaster.stores.sql.records import readable
from jobmaster.stores.sql.sqlite.accept import INSERT_MESSAGES
from jobmaster.stores.sql.sqlite.recover import tell_client, tell_ended
from jobmaster.stores.sql.sqlite.rows import INSERT_JOBS, states

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.stores.sql.sqlite.transaction import Transaction

STONE = "SELECT answer FROM jm_tombstone WHERE job_id = ?"
BURY = "INSERT INTO jm_tombstone (job_id, created_us, answer) VALUES (?, ?, ?) ON CONFLICT (job_id) DO NOTHING"
UNBURY = "DELETE FROM jm_tombstone WHERE job_id = ?"
END = """
UPDATE jm_job SET status = 8, bucket = NULL, gen = gen + 1, touched_us = ?, finished_us = ? WHERE id = ?
"""
OWNER = "SELECT owner FROM jm_bucket WHERE id = ?"

MESSAGES_OF = """
SELECT m.seq, m.bucket, m.gen, m.due_us, m.verify, m.at_most_once, m.task, m.custom_id, m.created_us, m.payload,
    b.owner, b.owner IS NULL AND b.clean = 1 AND b.status = 1
FROM jm_message m LEFT JOIN jm_bucket b ON b.id = m.bucket WHERE m.job_id = ?
"""
TAKE_AWAY = "DELETE FROM jm_message WHERE job_id = ?"
TAKE_OUT = "DELETE FROM jm_message WHERE seq = ?"

RESCHEDULE = "UPDATE jm_job SET due_us = ?, touched_us = ?, payload = ?, expires_us = ? WHERE id = ?"
EXPIRY = "SELECT payload, expires_us, trigger_kind FROM jm_job WHERE id = ?"
REQUEUE = """
UPDATE jm_job SET status = 2, bucket = NULL, worker = NULL, gen = gen + 1, nonce = NULL, due_us = ?, touched_us = ?,
    failures = 0, recoveries = 0, suspect = 0, started_us = NULL, finished_us = NULL, result = NULL,
    result_until_us = NULL, error = NULL, reason = '', payload = ?, expires_us = ?
WHERE id = ?
"""

CERTAIN = "certain"
STOPPABLE = (HELD, ASSIGNED, QUEUED)


class Waiting(NamedTuple):
    """A message of a job without a row, with what its bucket's row says."""

    seq: int
    bucket: int
    gen: int
    due_us: int
    verify: int
    at_most_once: int
    task: str
    custom_id: str | None
    created_us: int
    payload: bytes
    owner: int | None
    left_clean: int | None

    def unread(self, transaction: Transaction) -> bool:
        """Nobody can have it in memory: its bucket has no owner, or no read looks so far ahead."""
        return bool(self.left_clean) or self.due_us > transaction.now_us + transaction.rules.window_us

    def cannot_start(self, transaction: Transaction) -> bool:
        """Nobody can have it, or its start is a guarded write that a row decides."""
        return bool(self.verify or self.at_most_once) or self.unread(transaction)


def cancel(transaction: Transaction, key: JobKey) -> CancelReply:
    """R19."""
    row = states(transaction, [key]).get(key)
    if row is None:
        return _cancel_message(transaction, key)
    if row.final:
        return _answer_again(transaction, row)
    waits = row.status in STOPPABLE
    certain = row.status == HELD or (waits and bool(row.at_most_once))
    owner = _owner(transaction, row.bucket)
    _bury(transaction, key, certain=certain)
    if row.status != PROCESSING:
        transaction.execute(END, (transaction.now_us, transaction.now_us, key))
        tell_ended(transaction, [key])
    if certain:
        return CancelReply(CancelOutcome.CANCELLED)
    return _requested(transaction, owner)


def _cancel_message(transaction: Transaction, key: JobKey) -> CancelReply:
    """No row: the message is the authority, if it is here at all."""
    messages = waiting_messages(transaction, key)
    certain = bool(messages) and all(message.cannot_start(transaction) for message in messages)
    _bury(transaction, key, certain=certain)
    if not certain:
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
        gen=first.gen + 1,
        finished_us=now_us,
    )
    transaction.insert(INSERT_JOBS, [row])
    transaction.execute(TAKE_AWAY, (key,))
    tell_client(transaction, envelope)
    return CancelReply(CancelOutcome.CANCELLED)


def waiting_messages(transaction: Transaction, key: JobKey) -> list[Waiting]:
    """The job's messages, where this database holds messages."""
    return [Waiting(*row) for row in transaction.rows(MESSAGES_OF, (key,))] if transaction.standalone else []


def _answer_again(transaction: Transaction, row: State) -> CancelReply:
    stone = transaction.row(STONE, (row.key,))
    if row.status != CANCELLED or stone is None:
        return CancelReply(CancelOutcome.TOO_LATE)
    if stone[0] == CERTAIN:
        return CancelReply(CancelOutcome.CANCELLED)
    return CancelReply(CancelOutcome.REQUESTED, row.worker)


def _bury(transaction: Transaction, key: JobKey, *, certain: bool) -> None:
    transaction.execute(BURY, (key, transaction.now_us, CERTAIN if certain else ""))


def _owner(transaction: Transaction, bucket: int | None) -> int | None:
    row = None if bucket is None else transaction.row(OWNER, (bucket,))
    return row[0] if row else None


def _requested(transaction: Transaction, owner: int | None) -> CancelReply:
    transaction.topics.add("workers" if owner is None else f"worker:{owner}")
    return CancelReply(CancelOutcome.REQUESTED, owner)


def reschedule(transaction: Transaction, key: JobKey, due_us: int) -> bool:
    """A held row, or an unread message, gets a new due time."""
    row = states(transaction, [key]).get(key)
    if row is not None:
        if row.status != HELD:
            return False
        stored, expires_us, trigger = transaction.rows(EXPIRY, (key,))[0]
        payload, expires_us = put_off(stored, expires_us, trigger, due_us)
        transaction.execute(RESCHEDULE, (due_us, transaction.now_us, payload, expires_us, key))
        transaction.topics.add("held")
        return True
    messages = waiting_messages(transaction, key)
    if not messages or not all(message.unread(transaction) for message in messages):
        return False
    for message in messages:
        _move(transaction, key, message, due_us)
    return True


def _move(transaction: Transaction, key: JobKey, message: Waiting, due_us: int) -> None:
    """Numbered anew: the owner's cursor may have passed the old number."""
    transaction.execute(TAKE_OUT, (message.seq,))
    again = (
        message.bucket, key, message.gen, due_us, due_us > transaction.now_us, message.verify, message.at_most_once,
        message.task, message.custom_id, message.created_us, message.payload,
    )  # fmt: skip
    transaction.insert(INSERT_MESSAGES, [again])
    transaction.topics.add(f"bucket:{message.bucket}")


def requeue(transaction: Transaction, key: JobKey, due_us: int | None) -> bool:
    """A person's retry of a job that has ended."""
    row = states(transaction, [key]).get(key)
    if row is None or not row.final:
        return False
    transaction.execute(UNBURY, (key,))
    due = transaction.now_us if due_us is None else due_us
    stored, expires_us, _ = transaction.rows(EXPIRY, (key,))[0]
    payload, expires_us = once_more(stored, expires_us, due)
    transaction.execute(REQUEUE, (due, transaction.now_us, payload, expires_us, key))
    transaction.topics.add("held")
    return True
