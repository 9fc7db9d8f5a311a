"""The agent's side of a bucket's life: fence, close, drain (R15'a, R16, R24), and handing messages over (R20).

A push holds the bucket's row shared until it commits, so whoever holds it exclusively has waited for the inserts under
way; what they stored is seen by the next statement, whose snapshot is younger than the lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.ports.agent import Takeover
from jobmaster.ports.answers import Fenced
from jobmaster.stores.sql.postgresql.numbering import end_of, first_of, next_seq
from jobmaster.stores.sql.postgresql.read import first_messages

if TYPE_CHECKING:
    from jobmaster.model.job import Fence, Message
    from jobmaster.ports.agent import Cursor
    from jobmaster.stores.sql.postgresql.transaction import Transaction

HELD = "SELECT epoch, closing FROM jm_agent_bucket WHERE id = $1 FOR UPDATE"
BOTH_HELD = "SELECT id, epoch, closing FROM jm_agent_bucket WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE"
TAKE_EPOCH = "UPDATE jm_agent_bucket SET epoch = $2, closing = $3 WHERE id = $1"
# Of two that make the row at once the second waits for the first, and finds it.
MAKE = "INSERT INTO jm_agent_bucket (id, epoch, closing) VALUES ($1, $2, 0) ON CONFLICT (id) DO NOTHING"
DELETE_BUCKET = "DELETE FROM jm_agent_bucket WHERE id = $1"
LAST_SEQ = "SELECT seq FROM jm_message WHERE seq > $1 AND seq < $2 ORDER BY seq DESC LIMIT 1"
HAS_MESSAGES = "SELECT seq FROM jm_message WHERE seq > $1 AND seq < $2 ORDER BY seq LIMIT 1"

# The newest that the owner has not read, looking at a bounded number of those that are not due.
MOVE = f"""
WITH moved AS (
    DELETE FROM jm_message WHERE seq = ANY(ARRAY(
        SELECT seq FROM (
            SELECT seq, gen, due_us FROM jm_message WHERE seq > $1 AND seq < $2
            ORDER BY seq DESC LIMIT $4::bigint + 4000
        ) AS newest WHERE gen = 0 AND due_us <= $5::bigint + $6::bigint LIMIT $4
    )) RETURNING *
)
INSERT INTO jm_message (seq, bucket, job_id, gen, due_us, later, verify, at_most_once, task, custom_id, created_us,
    payload)
SELECT {next_seq("$3::bigint")}, $3, job_id, gen, due_us, CASE WHEN due_us > $5 THEN 1 ELSE 0 END,
    CASE WHEN verify = 1 OR seq <= $7::bigint THEN 1 ELSE 0 END, at_most_once, task, custom_id, created_us, payload
FROM (SELECT * FROM moved ORDER BY seq) AS in_order ON CONFLICT (job_id, gen, bucket) DO NOTHING
"""


async def fence(transaction: Transaction, owner: Fence) -> Takeover:
    """R15'a 1."""
    epoch = await _held_epoch(transaction, owner.bucket, make=owner.epoch)
    if epoch is None:
        raise Fenced(f"bucket {owner.bucket} is gone")
    if epoch > owner.epoch:
        raise Fenced(f"bucket {owner.bucket} is at epoch {epoch}, above {owner.epoch}")
    await transaction.changed(TAKE_EPOCH, owner.bucket, owner.epoch, 0)
    last = await transaction.value(LAST_SEQ, first_of(owner.bucket), end_of(owner.bucket))
    return Takeover(high_mark=last or 0)


async def close(transaction: Transaction, owner: Fence) -> bool:
    """R24. In standalone an empty bucket stays shut until `retire` deletes it, or a fence opens it again."""
    epoch = await _held_epoch(transaction, owner.bucket)
    if epoch is not None and epoch != owner.epoch:
        raise Fenced(f"bucket {owner.bucket} is at epoch {epoch}, not {owner.epoch}")
    if await has_messages(transaction, owner.bucket):
        await transaction.changed(TAKE_EPOCH, owner.bucket, owner.epoch, 0)
        return False
    if transaction.standalone:
        await transaction.changed(TAKE_EPOCH, owner.bucket, owner.epoch, 1)
    else:
        await transaction.changed(DELETE_BUCKET, owner.bucket)
    return True


async def has_messages(transaction: Transaction, bucket: int) -> bool:
    """Whether anything waits in the bucket, due or not."""
    return await transaction.value(HAS_MESSAGES, first_of(bucket), end_of(bucket)) is not None


async def drain_read(transaction: Transaction, bucket: int, epoch: int, limit: int) -> list[Message]:
    """R16: shut at this epoch, then what comes first."""
    found = await _held_epoch(transaction, bucket, make=epoch)
    if found is not None and found > epoch:
        raise Fenced(f"bucket {bucket} is at epoch {found}, above {epoch}")
    await transaction.changed(TAKE_EPOCH, bucket, epoch, 1)
    return await first_messages(transaction, bucket, limit)


async def _held_epoch(transaction: Transaction, bucket: int, *, make: int | None = None) -> int | None:
    """The epoch of the agent's row, which is held exclusively from now on; None: there is none.

    `make`: where there is none, one of this epoch is made; not in standalone, where it is made and deleted with the
    master's row.
    """
    row = await transaction.row(HELD, bucket)
    if row is None and make is not None and not transaction.standalone:
        await transaction.changed(MAKE, bucket, make)
        row = await transaction.row(HELD, bucket)
    return None if row is None else row[0]


async def hand_over(
    transaction: Transaction, owner: Fence, to: int, *, cursor: Cursor, high_mark: int, limit: int, window_us: int
) -> int:
    """R20: to the end of `to`, in their order, under new numbers: a cursor there may have passed the old ones."""
    rows = {row[0]: row for row in await transaction.rows(BOTH_HELD, [owner.bucket, to])}
    if owner.bucket not in rows or rows[owner.bucket][1] != owner.epoch:
        raise Fenced(f"bucket {owner.bucket} is not at epoch {owner.epoch}")
    if to not in rows or rows[to][2]:
        return 0
    now_us = await transaction.tick()
    first = max(cursor.seq, first_of(owner.bucket))
    moved = await transaction.changed(MOVE, first, end_of(owner.bucket), to, limit, now_us, window_us, high_mark)
    if moved:
        transaction.topics.add(f"bucket:{to}")
    return moved
