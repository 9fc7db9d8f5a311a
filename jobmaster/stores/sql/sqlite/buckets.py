"""The life of a bucket in the master: opened, taken in, given up, retired, drained (R5, R15'a, R16, R22', R24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.bucket import Bucket
from jobmaster.ports.answers import Fenced
from jobmaster.stores.sql.job_rows import QUEUED, STATE, State
from jobmaster.stores.sql.new_rows import drained_row
from jobmaster.stores.sql.records import BUCKET, bucket_of
from jobmaster.stores.sql.sqlite.fencing import TAKE_EPOCH, has_messages
from jobmaster.stores.sql.sqlite.owning import ACTIVE, COMPLETING, DRAINING, own
from jobmaster.stores.sql.sqlite.read import AGENT_EPOCH, depths, first_messages, remove
from jobmaster.stores.sql.sqlite.recover import hold_row, recover
from jobmaster.stores.sql.sqlite.rows import INSERT_JOBS, states, tombstoned
from jobmaster.stores.sql.sqlite.testimony import remove_messages_of
from jobmaster.stores.sql.sqlite.transaction import chunks, marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import NewBucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Fence, Message
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

OPEN_BUCKETS = f"SELECT {BUCKET} FROM jm_bucket WHERE status IN (1, 5) ORDER BY id"
BY_PLACE = f"""
SELECT {BUCKET} FROM jm_bucket WHERE agent = ? AND lane = ? AND priority = ? AND status IN (1, 5) ORDER BY id LIMIT 1
"""
BY_TOKEN = f"SELECT {BUCKET} FROM jm_bucket WHERE token = ?"
INSERT_BUCKET = f"""
INSERT INTO jm_bucket (token, agent, lane, priority, epoch, status, owner, adopted_us, left_us, depth, clean)
VALUES (?, ?, ?, ?, 1, 1, ?, 0, ?, 0, 1) RETURNING {BUCKET}
"""
LIVING = "SELECT 1 FROM jm_worker WHERE id = ? AND ended = 0"

# SQLite takes the partial index only where its very condition stands in the statement.
BEFORE = f"""
SELECT {STATE} FROM jm_job WHERE bucket = ? AND status IN (3, 4, 6) AND status <> 3 AND touched_us < ? LIMIT ?
"""
POINTING = f"""
SELECT {STATE} FROM jm_job WHERE bucket = ? AND status IN (3, 4, 6)
"""
GIVE_UP = """
UPDATE jm_bucket SET owner = NULL, status = 1, epoch = epoch + 1, clean = (clean OR ?) AND ?, left_us = ? WHERE id = ?
"""
SET_DEPTH = "UPDATE jm_bucket SET depth = ? WHERE id = ?"
SET_STATUS = "UPDATE jm_bucket SET status = ? WHERE id = ? AND status = ?"
DELETE = "DELETE FROM jm_bucket WHERE id = ?"
DELETE_AGENTS = "DELETE FROM jm_agent_bucket WHERE id = ?"

LOSE = "UPDATE jm_bucket SET owner = NULL, status = 5, epoch = epoch + 1, clean = 0, left_us = ? WHERE id = ?"

DRAINED_BY = f"SELECT {BUCKET} FROM jm_bucket WHERE owner = ? AND agent = ? AND status = 4 ORDER BY id LIMIT 1"
ABANDONED = """
SELECT id FROM jm_bucket WHERE agent = ? AND (status = 5 OR (status = 1 AND owner IS NULL)) AND left_us <= ?
ORDER BY id LIMIT 1
"""
GRANT_DRAIN = (
    f"UPDATE jm_bucket SET owner = ?, status = 4, epoch = epoch + 1, left_us = ? WHERE id = ? RETURNING {BUCKET}"
)
KNOWN = "SELECT id FROM jm_bucket WHERE id IN ({ids})"

HIGHEST_EPOCH = 2**62
LEFT_AT_ONCE = 1_000


def open_buckets(transaction: Transaction) -> list[Bucket]:
    """What producers may push to."""
    return [bucket_of(row) for row in transaction.rows(OPEN_BUCKETS)]


def offer_bucket(transaction: Transaction, new: NewBucket) -> Bucket:
    """The first open bucket of the place, or a new one without owner."""
    row = transaction.row(BY_PLACE, (new.agent, new.lane, new.priority))
    if row is not None:
        return bucket_of(row)
    transaction.topics.add("held")  # workers that would adopt it
    return _insert(transaction, new, None)


def create_buckets(transaction: Transaction, worker: int, new: Sequence[NewBucket]) -> list[Bucket]:
    """R5."""
    require_living(transaction, worker)
    return [_create(transaction, worker, one) for one in new]


def _create(transaction: Transaction, worker: int, new: NewBucket) -> Bucket:
    row = transaction.row(BY_TOKEN, (new.token,))
    if row is None:
        return _insert(transaction, new, worker)
    bucket = bucket_of(row)
    if (bucket.owner, bucket.epoch) != (worker, 1):
        raise Fenced(f"bucket {bucket.id} was opened by this call before and has moved on to epoch {bucket.epoch}")
    return bucket


def _insert(transaction: Transaction, new: NewBucket, owner: int | None) -> Bucket:
    values = (new.token, new.agent, new.lane, new.priority, owner, transaction.now_us)
    return bucket_of(transaction.rows(INSERT_BUCKET, values)[0])


def require_living(transaction: Transaction, worker: int) -> None:
    """Raise Fenced for a worker that was ended or never was."""
    if transaction.row(LIVING, (worker,)) is None:
        raise Fenced(f"worker {worker} was ended: a newer process of its name, or an operator, took its place")


def recover_before(transaction: Transaction, fence: Fence, adopted_us: int, limit: int) -> int:
    """R15'a 2."""
    own(transaction, fence)
    rows = [State(*row) for row in transaction.rows(BEFORE, (fence.bucket, adopted_us, limit))]
    recover(transaction, rows, living=(fence.owner,))
    remove_messages_of(transaction, rows)
    return len(rows)


def give_up(transaction: Transaction, fence: Fence) -> None:
    """R22'."""
    own(transaction, fence)
    rows = pointing(transaction, fence.bucket)
    queued = [row for row in rows if row.status == QUEUED]
    stones = tombstoned(transaction, [row.key for row in queued])
    for row in queued:
        hold_row(transaction, row, due_us=row.due_us, cancelled=row.key in stones)
    is_empty, left = False, len(rows)
    if transaction.standalone:
        remove_messages_of(transaction, queued)
        left -= len(queued)
        # What was published may be an earlier owner's, and nobody counts until it is adopted.
        depth = depths(transaction, [fence.bucket])[fence.bucket]
        transaction.execute(SET_DEPTH, (depth, fence.bucket))
        is_empty = not depth
    # The next owner must ask before it starts what may be the message of a row, here or back in the master.
    transaction.execute(GIVE_UP, (is_empty, not left, transaction.now_us, fence.bucket))
    transaction.topics.add("held")  # workers that would adopt it


def pointing(transaction: Transaction, bucket: int) -> list[State]:
    """Rows in a bucket status that point at the bucket."""
    return [State(*row) for row in transaction.rows(POINTING, (bucket,))]


def complete(transaction: Transaction, fence: Fence) -> None:
    """R24."""
    own(transaction, fence)
    transaction.execute(SET_STATUS, (COMPLETING, fence.bucket, ACTIVE))


def reopen(transaction: Transaction, fence: Fence) -> None:
    """R24, when the agent was not empty."""
    own(transaction, fence)
    transaction.execute(SET_STATUS, (ACTIVE, fence.bucket, COMPLETING))


def retire(transaction: Transaction, fence: Fence) -> None:
    """R16. Applied late, after the bucket was opened again, it must not take away what is in use."""
    own(transaction, fence, statuses=(COMPLETING, DRAINING))
    recover(transaction, pointing(transaction, fence.bucket), living=(fence.owner,))
    if transaction.standalone:
        while not _empty_a_part(transaction, fence.bucket, limit=LEFT_AT_ONCE):
            continue
        transaction.execute(DELETE_AGENTS, (fence.bucket,))
    transaction.execute(DELETE, (fence.bucket,))


def lose(transaction: Transaction, bucket: int) -> None:
    """The owner is gone: nobody's, at the next epoch, and not clean."""
    transaction.execute(LOSE, (transaction.now_us, bucket))
    transaction.topics.add("held")  # workers that would adopt it


# -- drain


def claim_drain(transaction: Transaction, worker: int, agent: str, older_us: int) -> Bucket | None:
    """R15, R16. Asked again, the same grant."""
    require_living(transaction, worker)
    row = transaction.row(DRAINED_BY, (worker, agent))
    if row is not None:
        return bucket_of(row)
    found = transaction.row(ABANDONED, (agent, transaction.now_us - older_us))
    if found is None:
        return None
    return bucket_of(transaction.rows(GRANT_DRAIN, (worker, transaction.now_us, found[0]))[0])


def return_bucket(transaction: Transaction, fence: Fence) -> None:
    """Who can't reach the agent gives the bucket back."""
    own(transaction, fence, statuses=(ACTIVE, DRAINING))
    lose(transaction, fence.bucket)


def drain_in(transaction: Transaction, fence: Fence, messages: Sequence[Message]) -> None:
    """R16, the master's half."""
    own(transaction, fence, statuses=(DRAINING,))
    rows = states(transaction, [message.key for message in messages])
    recover(
        transaction,
        [row for m in messages if (row := rows.get(m.key)) and not row.final and row.mine(fence.bucket, m.gen)],
        living=(fence.owner,),
    )
    insert_drained(transaction, [message for message in messages if message.key not in rows])


def insert_drained(transaction: Transaction, messages: Sequence[Message]) -> None:
    """Jobs that only their messages knew: held and suspect, as if their owner had been lost."""
    stones = tombstoned(transaction, [message.key for message in messages])
    new: dict[JobKey, Row] = {}
    for message in messages:
        if message.key not in new:
            new[message.key] = drained_row(message, cancelled=message.key in stones, now_us=transaction.now_us)
    transaction.insert(INSERT_JOBS, list(new.values()))
    if new:
        transaction.topics.add("held")


def drain(transaction: Transaction, fence: Fence, limit: int) -> bool:
    """R16 as one transaction, where master and agent are one database."""
    own(transaction, fence, statuses=(DRAINING,))
    row = transaction.row(AGENT_EPOCH, (fence.bucket,))
    if row is not None and row[0] > fence.epoch:
        raise Fenced(f"bucket {fence.bucket} is at epoch {row[0]}, above {fence.epoch}")
    transaction.execute(TAKE_EPOCH, (fence.bucket, fence.epoch, 1))
    messages = first_messages(transaction, fence.bucket, limit)
    drain_in(transaction, fence, messages)
    remove(transaction, fence.bucket, [message.seq for message in messages])
    return not has_messages(transaction, fence.bucket)


def unknown_buckets(transaction: Transaction, ids: Sequence[int]) -> list[int]:
    """R18: those that have no row."""
    known: set[int] = set()
    for chunk in chunks(ids, 1):
        known.update(row[0] for row in transaction.rows(KNOWN.replace("{ids}", marks(len(chunk))), chunk))
    return [number for number in ids if number not in known]


def drain_orphan(transaction: Transaction, bucket: int, limit: int) -> bool:
    """R18: a bucket that the master does not know. Its messages become rows, and at the end it is deleted."""
    if unknown_buckets(transaction, [bucket]) == []:
        raise Fenced(f"bucket {bucket} is known to the master: it is no orphan")
    transaction.execute(TAKE_EPOCH, (bucket, HIGHEST_EPOCH, 1))
    if not _empty_a_part(transaction, bucket, limit=limit):
        return False
    transaction.execute(DELETE_AGENTS, (bucket,))
    return True


def _empty_a_part(transaction: Transaction, bucket: int, *, limit: int) -> bool:
    """Messages that nobody will read become rows where there are none. True: nothing is left."""
    messages = first_messages(transaction, bucket, limit)
    rows = states(transaction, [message.key for message in messages])
    insert_drained(transaction, [message for message in messages if message.key not in rows])
    remove(transaction, bucket, [message.seq for message in messages])
    return not has_messages(transaction, bucket)
