"""An owner's reads, and what it removes. Nothing here takes longer because the bucket is longer.

Messages that were due when they were stored are found by number alone. Those that were not are passed over by number
and found by their due time, in an index of their own, when the window reaches them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.job import Message
from jobmaster.ports.agent import Cursor, Read, Reread
from jobmaster.ports.answers import Fenced

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobmaster.model.job import Fence
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

AGENT_EPOCH = "SELECT epoch FROM jm_agent_bucket WHERE id = ?"
KNOWN = "SELECT 1 FROM jm_bucket WHERE id = ?"

AFTER = """
SELECT seq, job_id, gen, due_us, CASE WHEN later = 0 OR due_us <= ?3 THEN payload END, verify
FROM jm_message WHERE bucket = ?1 AND seq > ?2 ORDER BY seq LIMIT ?4
"""
FALLEN_DUE = """
SELECT seq, job_id, gen, due_us, payload, verify FROM jm_message
WHERE bucket = ?1 AND later = 1 AND (due_us, seq) > (?2, ?3) AND due_us <= ?4 AND seq <= ?5
ORDER BY due_us, seq LIMIT ?6
"""
NEXT_DUE = """
SELECT due_us FROM jm_message WHERE bucket = ? AND later = 1 AND (due_us, seq) > (?, ?) ORDER BY due_us, seq LIMIT 1
"""
BELOW = """
SELECT seq, job_id, gen, due_us, payload, verify FROM jm_message
WHERE bucket = ?1 AND seq <= ?2 AND (later = 0 OR due_us <= ?3) AND seq NOT IN (SELECT value FROM json_each(?4))
ORDER BY seq LIMIT ?5
"""
FIRST = """
SELECT seq, job_id, gen, due_us, payload, verify FROM jm_message WHERE bucket = ? ORDER BY seq LIMIT ?
"""
REMOVE = "DELETE FROM jm_message WHERE bucket = ? AND seq IN (SELECT value FROM json_each(?))"
DEPTH = "SELECT count(*) FROM (SELECT 1 FROM jm_message WHERE bucket = ? LIMIT 10000)"
NEXT_BUCKET = "SELECT id FROM jm_agent_bucket WHERE id > ? ORDER BY id LIMIT 1000"
NEXT_USED = "SELECT min(bucket) FROM jm_message WHERE bucket > ?"

LONGEST_SCAN = 4_000
"""Messages passed over in one read at most (not due yet)."""

LARGEST_SEQ = 2**63 - 1


def read(transaction: Transaction, fence: Fence, cursor: Cursor | None, limit: int, window_us: int) -> Read:
    """Messages after the cursor, and those below it that fell due."""
    require_epoch(transaction, fence)
    horizon = transaction.now_us + _ahead(transaction, window_us)
    start = cursor or Cursor(due_us=horizon)
    due = _fallen_due(transaction, fence.bucket, start, horizon, limit) if cursor else []
    cut = len(due) == limit
    due_us, due_seq = (due[-1][3], due[-1][0]) if cut else (max(start.due_us, horizon), LARGEST_SEQ)
    found, seq, more = _after(transaction, fence.bucket, start.seq, horizon, limit - len(due))
    next_due = transaction.row(NEXT_DUE, (fence.bucket, due_us, due_seq))
    return Read(
        messages=[_message(fence.bucket, row) for row in (*sorted(due), *found)],
        cursor=Cursor(seq, due_us, due_seq),
        now_us=transaction.now_us,
        more=more or cut,
        next_due_us=next_due[0] if next_due else None,
    )


def _fallen_due(transaction: Transaction, bucket: int, start: Cursor, horizon: int, limit: int) -> list[Row]:
    return transaction.rows(FALLEN_DUE, (bucket, start.due_us, start.due_seq, horizon, start.seq, limit))


def _after(transaction: Transaction, bucket: int, seq: int, horizon: int, limit: int) -> tuple[list[Row], int, bool]:
    """Due messages numbered above `seq`, up to which number was looked, and whether there may be more."""
    if limit <= 0:
        return [], seq, True
    found: list[Row] = []
    bound = limit + LONGEST_SCAN
    passed = 0
    for row in transaction.execute(AFTER, (bucket, seq, horizon, bound)):
        passed += 1
        seq = row[0]
        if row[4] is not None:
            found.append(row)
            if len(found) == limit:
                return found, seq, True
    return found, seq, passed == bound


def reread(
    transaction: Transaction, fence: Fence, cursor: Cursor, known: Collection[int], *, limit: int, window_us: int
) -> Reread:
    """R9. Nobody needs it here: numbers are given under the write lock, so no message appears below a cursor."""
    require_epoch(transaction, fence)
    horizon = transaction.now_us + _ahead(transaction, window_us)
    rows = transaction.rows(BELOW, (fence.bucket, cursor.seq, horizon, str(list(known)), limit))
    return Reread([_message(fence.bucket, row) for row in rows])


def _ahead(transaction: Transaction, window_us: int) -> int:
    """How far ahead a read looks: in standalone, what is due later can still be cancelled for certain."""
    return min(window_us, transaction.rules.window_us) if transaction.standalone else window_us


def first_messages(transaction: Transaction, bucket: int, limit: int) -> list[Message]:
    """The first messages of a bucket, due or not."""
    return [_message(bucket, row) for row in transaction.rows(FIRST, (bucket, limit))]


def remove(transaction: Transaction, bucket: int, seqs: Sequence[int]) -> None:
    """R13."""
    if seqs:
        transaction.execute(REMOVE, (bucket, str(list(seqs))))


def depths(transaction: Transaction, buckets: Sequence[int]) -> dict[int, int]:
    """Counted up to 10,000."""
    return {bucket: transaction.rows(DEPTH, (bucket,))[0][0] for bucket in buckets}


def orphans(transaction: Transaction, known: frozenset[int]) -> list[int]:
    """R18. Where the master is here, too, a message is only taken into a bucket that it knows."""
    if transaction.standalone:
        return []
    return sorted((_agent_buckets(transaction) | used_buckets(transaction)) - known)


def used_buckets(transaction: Transaction) -> set[int]:
    """Buckets with messages: one step in the index for each, not one per message."""
    used: set[int] = set()
    last = -(2**63)
    while (bucket := transaction.rows(NEXT_USED, (last,))[0][0]) is not None:
        used.add(bucket)
        last = bucket
    return used


def _agent_buckets(transaction: Transaction) -> set[int]:
    known: set[int] = set()
    last = -(2**63)
    while rows := transaction.rows(NEXT_BUCKET, (last,)):
        known.update(row[0] for row in rows)
        last = rows[-1][0]
    return known


def require_epoch(transaction: Transaction, fence: Fence) -> None:
    """Raise Fenced where the agent has a higher epoch, or (in standalone) the master does not know the bucket."""
    row = transaction.row(AGENT_EPOCH, (fence.bucket,))
    if row is not None and row[0] > fence.epoch:
        raise Fenced(f"bucket {fence.bucket} is at epoch {row[0]}, above {fence.epoch}")
    if transaction.standalone and transaction.row(KNOWN, (fence.bucket,)) is None:
        raise Fenced(f"bucket {fence.bucket} is gone")


def _message(bucket: int, row: Row) -> Message:
    seq, key, gen, due_us, payload, verify = row
    return Message(seq, bucket, key, gen, due_us, payload, bool(verify))
