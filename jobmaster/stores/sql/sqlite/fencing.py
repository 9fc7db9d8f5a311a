"""The agent's side of a bucket's life: fence, close, drain (R15'a, R16, R24), and handing messages over (R20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.ports.agent import Takeover
from jobmaster.ports.answers import Fenced, Refused
from jobmaster.stores.sql.sqlite.accept import AGENT_BUCKET, INSERT_MESSAGES, require_open
from jobmaster.stores.sql.sqlite.read import KNOWN, first_messages, remove, require_epoch

if TYPE_CHECKING:
    from jobmaster.model.job import Fence, Message
    from jobmaster.ports.agent import Cursor
    from jobmaster.stores.sql.sqlite.transaction import Transaction

TAKE_EPOCH = """
INSERT INTO jm_agent_bucket (id, epoch, closing) VALUES (?1, ?2, ?3)
ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, closing = excluded.closing
"""
SET_CLOSING = "UPDATE jm_agent_bucket SET closing = ? WHERE id = ?"
DELETE_BUCKET = "DELETE FROM jm_agent_bucket WHERE id = ?"
LAST_SEQ = "SELECT max(seq) FROM jm_message WHERE bucket = ?"
HAS_MESSAGES = "SELECT EXISTS (SELECT 1 FROM jm_message WHERE bucket = ?)"

# The newest that the owner has not read, looking at a bounded number of those that are not due.
NEWEST = """
SELECT seq, job_id, gen, due_us, verify, at_most_once, task, custom_id, created_us, payload FROM (
    SELECT * FROM jm_message WHERE bucket = ?1 AND seq > ?2 ORDER BY seq DESC LIMIT ?4 + 4000
) WHERE gen = 0 AND due_us <= ?3 LIMIT ?4
"""


def fence(transaction: Transaction, owner: Fence) -> Takeover:
    """R15'a 1."""
    require_epoch(transaction, owner)
    transaction.execute(TAKE_EPOCH, (owner.bucket, owner.epoch, 0))
    return Takeover(high_mark=transaction.rows(LAST_SEQ, (owner.bucket,))[0][0] or 0)


def close(transaction: Transaction, owner: Fence) -> bool:
    """R24. In standalone an empty bucket stays shut until `retire` deletes it, or a fence opens it again."""
    row = transaction.row(AGENT_BUCKET, (owner.bucket,))
    if row is not None and row[0] != owner.epoch:
        raise Fenced(f"bucket {owner.bucket} is at epoch {row[0]}, not {owner.epoch}")
    if has_messages(transaction, owner.bucket):
        transaction.execute(SET_CLOSING, (0, owner.bucket))
        return False
    if transaction.standalone and transaction.row(KNOWN, (owner.bucket,)):
        transaction.execute(TAKE_EPOCH, (owner.bucket, owner.epoch, 1))
    else:
        transaction.execute(DELETE_BUCKET, (owner.bucket,))
    return True


def has_messages(transaction: Transaction, bucket: int) -> bool:
    """Whether anything waits in the bucket, due or not."""
    return bool(transaction.rows(HAS_MESSAGES, (bucket,))[0][0])


def drain_read(transaction: Transaction, bucket: int, epoch: int, limit: int) -> list[Message]:
    """R16: shut at this epoch, then what comes first."""
    row = transaction.row(AGENT_BUCKET, (bucket,))
    if row is not None and row[0] > epoch:
        raise Fenced(f"bucket {bucket} is at epoch {row[0]}, above {epoch}")
    transaction.execute(TAKE_EPOCH, (bucket, epoch, 1))
    return first_messages(transaction, bucket, limit)


def hand_over(
    transaction: Transaction, owner: Fence, to: int, *, cursor: Cursor, high_mark: int, limit: int, window_us: int
) -> int:
    """R20: to the end of `to`, in their order, under new numbers: a cursor there may have passed the old ones."""
    row = transaction.row(AGENT_BUCKET, (owner.bucket,))
    if row is None or row[0] != owner.epoch:
        raise Fenced(f"bucket {owner.bucket} is not at epoch {owner.epoch}")
    try:
        require_open(transaction, to)
    except Refused:
        return 0
    now_us = transaction.now_us
    found = transaction.rows(NEWEST, (owner.bucket, cursor.seq, now_us + window_us, limit))[::-1]
    remove(transaction, owner.bucket, [message[0] for message in found])
    moved = [
        (
            to,
            key,
            gen,
            due_us,
            due_us > now_us,
            verify or seq <= high_mark,
            at_most_once,
            task,
            custom_id,
            created_us,
            payload,
        )
        for seq, key, gen, due_us, verify, at_most_once, task, custom_id, created_us, payload in found
    ]
    transaction.insert(INSERT_MESSAGES, moved)
    if moved:
        transaction.topics.add(f"bucket:{to}")
    return len(moved)
