"""The life of a bucket in the master: opened, taken in, given up, closed (R5, R15'a, R22', R24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.errors import StoreUnavailable
from jobmaster.ports.answers import Fenced
from jobmaster.stores.sql.job_rows import QUEUED, STATE, State
from jobmaster.stores.sql.postgresql.leases import ALONE, lose
from jobmaster.stores.sql.postgresql.numbering import MOST_BUCKETS
from jobmaster.stores.sql.postgresql.owning import ACTIVE, COMPLETING, DRAINING, Owned, own
from jobmaster.stores.sql.postgresql.read import depths
from jobmaster.stores.sql.postgresql.recover import Held, hold_rows, recover
from jobmaster.stores.sql.postgresql.rows import tombstoned
from jobmaster.stores.sql.postgresql.testimony import remove_messages_of
from jobmaster.stores.sql.records import BUCKET, bucket_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.bucket import Bucket, NewBucket
    from jobmaster.model.job import Fence
    from jobmaster.stores.sql.postgresql.transaction import Transaction

OPEN_BUCKETS = f"SELECT {BUCKET} FROM jm_bucket WHERE status IN (1, 5) ORDER BY id"
BY_PLACE = f"""
SELECT {BUCKET} FROM jm_bucket WHERE agent = $1 AND lane = $2 AND priority = $3 AND status IN (1, 5) ORDER BY id LIMIT 1
"""
BY_TOKENS = f"SELECT token, {BUCKET} FROM jm_bucket WHERE token = ANY($1::text[])"
# The agent's half of the bucket, where it is the same database: pushes hold that row alone.
INSERT_BUCKETS = f"""
WITH made AS (
    INSERT INTO jm_bucket (token, agent, lane, priority, epoch, status, owner, adopted_us, left_us, depth, clean)
    SELECT n.token, n.agent, n.lane, n.priority, 1, 1, $5::bigint, 0, $6, 0, 1
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int[]) AS n(token, agent, lane, priority)
    ON CONFLICT (token) DO NOTHING RETURNING token, {BUCKET}
), halves AS (
    INSERT INTO jm_agent_bucket (id, epoch, closing) SELECT id, epoch, 0 FROM made WHERE $7
)
SELECT token, {BUCKET} FROM made
"""
LIVING = "SELECT 1 FROM jm_worker WHERE id = $1 AND ended = 0 FOR SHARE"

BEFORE = """
SELECT id FROM jm_job WHERE bucket = $1 AND status IN (3, 4, 6) AND status <> 3 AND touched_us < $2 LIMIT $3
"""
HOLD_BEFORE = f"""
SELECT {STATE} FROM jm_job WHERE id = ANY($1::uuid[]) AND bucket = $2 AND status IN (4, 6) AND touched_us < $3
ORDER BY id FOR UPDATE
"""
POINTING = f"SELECT {STATE} FROM jm_job WHERE bucket = $1 AND status IN (3, 4, 6) ORDER BY id FOR UPDATE"
GIVE_UP = """
UPDATE jm_bucket SET owner = NULL, status = 1, epoch = epoch + 1, left_us = $2,
    clean = CASE WHEN NOT $3 THEN 0 WHEN $4 THEN 1 ELSE clean END WHERE id = $1
"""
SET_DEPTH = "UPDATE jm_bucket SET depth = $2 WHERE id = $1"
SET_STATUS = "UPDATE jm_bucket SET status = $2 WHERE id = $1 AND status = $3"


async def open_buckets(transaction: Transaction) -> list[Bucket]:
    """What producers may push to."""
    return [bucket_of(row) for row in await transaction.rows(OPEN_BUCKETS)]


async def open_bucket_of(transaction: Transaction, place: NewBucket) -> Bucket | None:
    """The first open bucket of an agent, lane and priority."""
    row = await transaction.row(BY_PLACE, place.agent, place.lane, place.priority)
    return None if row is None else bucket_of(row)


async def offer_bucket(transaction: Transaction, new: NewBucket) -> Bucket:
    """The first open bucket of the place, or a new one without owner. Producers of one place come one by one."""
    await transaction.value(ALONE, f"bucket {new.agent}\x1f{new.lane}\x1f{new.priority}")
    found = await open_bucket_of(transaction, new)
    if found is not None:
        return found
    await transaction.tick()
    transaction.topics.add("held")  # workers that would adopt it
    return (await _insert(transaction, [new], None))[new.token]


async def create_buckets(transaction: Transaction, worker: int, new: Sequence[NewBucket]) -> list[Bucket]:
    """R5."""
    await require_living(transaction, worker)
    await transaction.tick()
    buckets = await _insert(transaction, new, worker)
    for bucket in buckets.values():
        if (bucket.owner, bucket.epoch) != (worker, 1):
            raise Fenced(f"bucket {bucket.id} was opened by this call before and has moved on to epoch {bucket.epoch}")
    return [buckets[one.token] for one in new]


async def _insert(transaction: Transaction, new: Sequence[NewBucket], owner: int | None) -> dict[str, Bucket]:
    """New buckets by token. One that is there already (the same call came before) is as it is now."""
    by_token = {one.token: (one.token, one.agent, one.lane, one.priority) for one in new}
    columns = map(list, zip(*(by_token[token] for token in sorted(by_token)), strict=True))
    rows = await transaction.rows(INSERT_BUCKETS, *columns, owner, transaction.now_us, transaction.standalone)
    buckets = {row[0]: bucket_of(row[1:]) for row in rows}
    if missing := [token for token in by_token if token not in buckets]:
        found = await transaction.rows(BY_TOKENS, missing)
        buckets.update((row[0], bucket_of(row[1:])) for row in found)
    _check_numbers(buckets.values())
    return buckets


def _check_numbers(buckets: Iterable[Bucket]) -> None:
    """A message's number has the bucket's in its upper bits, and only so many of them."""
    highest = max((bucket.id for bucket in buckets), default=0)
    if highest >= MOST_BUCKETS:
        raise StoreUnavailable(
            f"No bucket can be opened: this database would give it number {highest}, but has room for numbers below "
            f"{MOST_BUCKETS} only. Nothing was stored. Drain this cluster, and go on with a new database."
        )


async def require_living(transaction: Transaction, worker: int) -> None:
    """Hold the worker's row, so that nobody ends it meanwhile.

    Raises:
        Fenced: it was ended or never was.
    """
    if await transaction.value(LIVING, worker) is None:
        raise Fenced(f"worker {worker} was ended: a newer process of its name, or an operator, took its place")


async def recover_before(transaction: Transaction, fence: Fence, adopted_us: int, limit: int) -> int:
    """R15'a 2."""
    await own(transaction, fence)
    count = 0
    while count < limit:
        keys = [row[0] for row in await transaction.rows(BEFORE, fence.bucket, adopted_us, limit - count)]
        if not keys:
            break
        # Somebody else may have moved them before they were held: then others are looked for.
        rows = await transaction.rows(HOLD_BEFORE, keys, fence.bucket, adopted_us)
        states = [State(*row) for row in rows]
        await recover(transaction, states, living=(fence.owner,))
        await remove_messages_of(transaction, states)
        count += len(rows)
    return count


async def give_up(transaction: Transaction, fence: Fence) -> None:
    """R22'."""
    await own(transaction, fence, exclusively=True)
    rows = await pointing(transaction, fence.bucket)
    queued = [row for row in rows if row.status == QUEUED]
    stones = await tombstoned(transaction, [row.key for row in queued])
    await hold_rows(transaction, [Held(row, row.due_us, row.key in stones) for row in queued])
    is_empty, left = False, len(rows)
    if transaction.standalone:
        await remove_messages_of(transaction, queued)
        left -= len(queued)
        # What was published may be an earlier owner's, and nobody counts until it is adopted.
        depth = (await depths(transaction, [fence.bucket]))[fence.bucket]
        await transaction.changed(SET_DEPTH, fence.bucket, depth)
        is_empty = not depth
    # The next owner must ask before it starts what may be the message of a row, here or back in the master.
    await transaction.changed(GIVE_UP, fence.bucket, transaction.now_us, not left, is_empty)
    transaction.topics.add("held")  # workers that would adopt it


async def pointing(transaction: Transaction, bucket: int) -> list[State]:
    """Rows in a bucket status that point at the bucket, held."""
    return [State(*row) for row in await transaction.rows(POINTING, bucket)]


async def complete(transaction: Transaction, fence: Fence) -> None:
    """R24."""
    await own(transaction, fence, exclusively=True)
    await transaction.changed(SET_STATUS, fence.bucket, COMPLETING, ACTIVE)


async def reopen(transaction: Transaction, fence: Fence) -> None:
    """R24, when the agent was not empty."""
    await own(transaction, fence, exclusively=True)
    await transaction.changed(SET_STATUS, fence.bucket, ACTIVE, COMPLETING)


async def return_bucket(transaction: Transaction, fence: Fence) -> None:
    """Who can't reach the agent gives the bucket back."""
    await own_as(transaction, fence, ACTIVE, DRAINING)
    await lose(transaction, [fence.bucket])


async def own_as(transaction: Transaction, fence: Fence, *statuses: int) -> Owned:
    """Own the bucket exclusively, in one of these statuses.

    Raises:
        Fenced: it has another owner, epoch or status.
    """
    owned = await own(transaction, fence, exclusively=True)
    if owned.status not in statuses:
        raise Fenced(f"bucket {fence.bucket} has status {owned.status}")
    return owned
