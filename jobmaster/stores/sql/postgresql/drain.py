"""Buckets that come to their end: drained by who took them for that, and deleted (R16, R18)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.ports.answers import Fenced
from jobmaster.stores.sql.new_rows import drained_row
from jobmaster.stores.sql.postgresql.buckets import own_as, pointing
from jobmaster.stores.sql.postgresql.fencing import DELETE_BUCKET, TAKE_EPOCH, drain_read, has_messages
from jobmaster.stores.sql.postgresql.fencing import HELD as HOLD_AGENTS
from jobmaster.stores.sql.postgresql.owning import COMPLETING, DRAINING
from jobmaster.stores.sql.postgresql.read import REMOVE, first_messages
from jobmaster.stores.sql.postgresql.recover import recover
from jobmaster.stores.sql.postgresql.rows import insert_jobs, states, tombstoned
from jobmaster.stores.sql.records import BUCKET, bucket_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Fence, Message
    from jobmaster.stores.sql.postgresql.transaction import Transaction

# Held exclusively, so that of two such calls of one worker the second finds what the first has taken.
HOLD_LIVING = "SELECT id FROM jm_worker WHERE id = $1 AND ended = 0 FOR UPDATE"
DRAINED_BY = f"SELECT {BUCKET} FROM jm_bucket WHERE owner = $1 AND agent = $2 AND status = 4 ORDER BY id LIMIT 1"
HOLD_ABANDONED = """
SELECT id FROM jm_bucket WHERE agent = $1 AND owner IS NULL AND status IN (1, 5) AND left_us <= $2
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
GRANT_DRAIN = f"""
UPDATE jm_bucket SET owner = $1, status = 4, epoch = epoch + 1, left_us = $2 WHERE id = $3 RETURNING {BUCKET}
"""
KNOWN = "SELECT id FROM jm_bucket WHERE id = ANY($1::bigint[])"
DELETE = "DELETE FROM jm_bucket WHERE id = $1"

HIGHEST_EPOCH = 2**62
LEFT_AT_ONCE = 1_000


async def claim_drain(transaction: Transaction, worker: int, agent: str, older_us: int) -> Bucket | None:
    """R15, R16. Asked again, the same grant."""
    if await transaction.value(HOLD_LIVING, worker) is None:
        raise Fenced(f"worker {worker} was ended: a newer process of its name, or an operator, took its place")
    row = await transaction.row(DRAINED_BY, worker, agent)
    if row is not None:
        return bucket_of(row)
    abandoned = await transaction.value(HOLD_ABANDONED, agent, await transaction.tick() - older_us)
    if abandoned is None:
        return None
    (granted,) = await transaction.rows(GRANT_DRAIN, worker, await transaction.tick(), abandoned)
    return bucket_of(granted)


async def drain(transaction: Transaction, fence: Fence, limit: int) -> bool:
    """R16 as one transaction, where master and agent are one database."""
    await own_as(transaction, fence, DRAINING)
    messages = await drain_read(transaction, fence.bucket, fence.epoch, limit)
    await _take_in(transaction, fence, messages)
    return await _remove(transaction, fence.bucket, messages)


async def drain_in(transaction: Transaction, fence: Fence, messages: Sequence[Message]) -> None:
    """R16, the master's half."""
    await own_as(transaction, fence, DRAINING)
    await _take_in(transaction, fence, messages)


async def _take_in(transaction: Transaction, fence: Fence, messages: Sequence[Message]) -> None:
    """Rows of the bucket are recovered, and who has none gets one."""
    while True:
        rows = await states(transaction, [message.key for message in messages])
        pairs = [(row, message) for message in messages if (row := rows.get(message.key))]
        mine = {row.key: row for row, message in pairs if not row.final and row.mine(fence.bucket, message.gen)}
        await recover(transaction, list(mine.values()), living=(fence.owner,))
        if await _insert(transaction, [message for message in messages if message.key not in rows]):
            return


async def _insert(transaction: Transaction, messages: Sequence[Message]) -> bool:
    """Jobs that only their messages knew: held and suspect, as if their owner had been lost.

    False: somebody else has inserted one of them meanwhile.
    """
    first: dict[JobKey, Message] = {}
    for message in messages:
        first.setdefault(message.key, message)
    if not first:
        return True
    stones = await tombstoned(transaction, first)
    rows = [drained_row(message, cancelled=key in stones, now_us=transaction.now_us) for key, message in first.items()]
    transaction.topics.add("held")
    return await insert_jobs(transaction, rows) == len(rows)


async def _remove(transaction: Transaction, bucket: int, messages: Sequence[Message]) -> bool:
    """Remove the messages. True: nothing is left."""
    if messages:
        await transaction.changed(REMOVE, [message.seq for message in messages])
    return not await has_messages(transaction, bucket)


async def retire(transaction: Transaction, fence: Fence) -> None:
    """R16. Applied late, after the bucket was opened again, it must not take away what is in use."""
    await own_as(transaction, fence, COMPLETING, DRAINING)
    if transaction.standalone:
        await transaction.row(HOLD_AGENTS, fence.bucket)  # inserts under way have ended, new ones will be refused
    await recover(transaction, await pointing(transaction, fence.bucket), living=(fence.owner,))
    if transaction.standalone:
        while not await _empty_a_part(transaction, fence.bucket, LEFT_AT_ONCE):
            continue
        await transaction.changed(DELETE_BUCKET, fence.bucket)
    await transaction.changed(DELETE, fence.bucket)


async def unknown_buckets(transaction: Transaction, ids: Sequence[int]) -> list[int]:
    """R18: those that have no row."""
    known = {row[0] for row in await transaction.rows(KNOWN, list(ids))}
    return [number for number in ids if number not in known]


async def drain_orphan(transaction: Transaction, bucket: int, limit: int) -> bool:
    """R18: a bucket that the master does not know. Its messages become rows, and at the end it is deleted."""
    await transaction.row(HOLD_AGENTS, bucket)
    if not await unknown_buckets(transaction, [bucket]):
        raise Fenced(f"bucket {bucket} is known to the master: it is no orphan")
    await transaction.changed(TAKE_EPOCH, bucket, HIGHEST_EPOCH, 1)
    await transaction.tick()
    if not await _empty_a_part(transaction, bucket, limit):
        return False
    await transaction.changed(DELETE_BUCKET, bucket)
    return True


async def _empty_a_part(transaction: Transaction, bucket: int, limit: int) -> bool:
    """Messages that nobody will read become rows where there are none. True: nothing is left."""
    messages = await first_messages(transaction, bucket, limit)
    rows = await states(transaction, [message.key for message in messages])
    await _insert(transaction, [message for message in messages if message.key not in rows])
    return await _remove(transaction, bucket, messages)
