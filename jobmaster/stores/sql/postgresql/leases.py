"""Workers and their leases: registered, ended, and buckets whose owner is lost (R4, R15).

A worker's row is held while its lease is judged or changed, so that no renewal is granted what is being taken away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from jobmaster.model.worker import Registered
from jobmaster.ports.answers import HigherBoot
from jobmaster.stores.sql.postgresql.testimony import hear, recover_named
from jobmaster.stores.sql.postgresql.transaction import CLOCK
from jobmaster.stores.sql.records import BOOT, BUCKET, bucket_of, predecessor_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.job import Blame
    from jobmaster.model.worker import Registration
    from jobmaster.stores.sql.postgresql.transaction import Transaction

ALONE = "SELECT pg_advisory_xact_lock(hashtextextended($1, 4242))"
"""Of two transactions that ask for the same words the second waits, and then sees what the first has done."""

HOLD_NEWEST_BOOT = f"SELECT {BOOT} FROM jm_worker WHERE name = $1 ORDER BY boot DESC LIMIT 1 FOR UPDATE"
HOLD_WORKER = "SELECT id FROM jm_worker WHERE id = $1 FOR UPDATE"
INSERT_WORKER = """
INSERT INTO jm_worker (name, boot, agent, lanes, mode, host, pid, slots, version, schema_version, started_us,
    renewed_us, lease_until_us, stats, demands)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, '{}', '[]') RETURNING id
"""
END_LEASE = "UPDATE jm_worker SET ended = 1, lease_until_us = least(lease_until_us, $2) WHERE id = $1"

HOLD_LOSABLE = "SELECT id FROM jm_bucket WHERE owner = $1 AND status IN (1, 2, 4) ORDER BY id FOR UPDATE"
LOSE = f"""
UPDATE jm_bucket SET owner = NULL, status = 5, epoch = epoch + 1, clean = 0, left_us = $2
WHERE id = ANY($1::bigint[]) RETURNING {BUCKET}
"""

SUSPECTS = f"""
SELECT b.id FROM jm_bucket b LEFT JOIN jm_worker w ON w.id = b.owner
WHERE b.owner IS NOT NULL AND b.status IN (1, 2, 4)
    AND (w.id IS NULL OR w.ended = 1 OR w.lease_until_us <= least($2::bigint, coalesce($1::bigint, {CLOCK})))
ORDER BY b.id
"""
HOLD_SUSPECTS = """
SELECT id, owner FROM jm_bucket WHERE id = ANY($1::bigint[]) AND owner IS NOT NULL AND status IN (1, 2, 4)
ORDER BY id LIMIT $2 FOR UPDATE
"""
HOLD_OWNERS = "SELECT id, ended, lease_until_us FROM jm_worker WHERE id = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED"
KNOWN_OWNERS = "SELECT id FROM jm_worker WHERE id = ANY($1::bigint[])"

_encode = msgspec.json.Encoder().encode


async def register(transaction: Transaction, registration: Registration) -> Registered:
    """R4."""
    new = registration
    await transaction.value(ALONE, f"worker {new.name}")
    row = await transaction.row(HOLD_NEWEST_BOOT, new.name)
    now_us = await transaction.tick()
    if row is not None and row[1] == new.boot:
        return Registered(row[0], now_us)
    if row is not None and row[1] > new.boot:
        raise HigherBoot(new.name, row[1])
    replaced = None
    if row is not None:
        replaced = predecessor_of(row, now_us)
        await transaction.changed(END_LEASE, row[0], now_us)
    until_us = now_us + transaction.rules.lease_us
    worker = await transaction.value(
        INSERT_WORKER, new.name, new.boot, new.agent, _encode(new.lanes), new.mode.value, new.host, new.pid, new.slots,
        new.version, new.schema_version, now_us, until_us,
    )  # fmt: skip
    return Registered(worker, now_us, replaced)


async def end_worker(transaction: Transaction, worker: int, blame: Sequence[Blame] | None) -> None:
    """End a lease at once; its buckets are lost. What a testimony names is recovered with them."""
    await transaction.row(HOLD_WORKER, worker)
    buckets = [row[0] for row in await transaction.rows(HOLD_LOSABLE, worker)]
    now_us = await transaction.tick()
    said = await hear(transaction, worker, blame) if blame is not None else {}
    await transaction.changed(END_LEASE, worker, now_us)
    await lose(transaction, buckets)
    await recover_named(transaction, worker, said, buckets)


async def lose(transaction: Transaction, buckets: Sequence[int]) -> list[Bucket]:
    """The owner is gone: nobody's, at the next epoch, and not clean. The rows are held exclusively, the clock is read.

    Returns them as they are now.
    """
    if not buckets:
        return []
    rows = await transaction.rows(LOSE, list(buckets), transaction.now_us)
    transaction.topics.add("held")  # workers that would adopt it
    return sorted((bucket_of(row) for row in rows), key=lambda bucket: bucket.id)


class Judged(NamedTuple):
    """Buckets whose loss is to be judged: how many may be lost, and by which moment their owners' leases are over."""

    buckets: Sequence[int]
    limit: int
    as_of_us: int | None


async def suspects(transaction: Transaction, as_of_us: int | None) -> list[int]:
    """Buckets whose owner's lease seems to be over, looked at without any lock."""
    clock = transaction.setting.clock_us
    return [row[0] for row in await transaction.rows(SUSPECTS, None if clock is None else clock(), as_of_us)]


async def mark_lost(transaction: Transaction, judged: Judged, *, patiently: bool) -> list[Bucket]:
    """R15, for `suspects`.

    Args:
        transaction: as always.
        judged: what they are.
        patiently: wait for writes in a bucket's name that are under way; else such a bucket is passed over.
    """
    hold = HOLD_SUSPECTS + ("" if patiently else "SKIP LOCKED")
    held = await transaction.rows(hold, list(judged.buckets), judged.limit)
    living = await _living(transaction, {owner for _, owner in held}, judged.as_of_us)
    return await lose(transaction, [bucket for bucket, owner in held if owner not in living])


class _Lease(NamedTuple):
    worker: int
    ended: int
    until_us: int


async def _living(transaction: Transaction, owners: Iterable[int], as_of_us: int | None) -> set[int]:
    """Those whose lease is not over, by the clock as it is once all rows are held, or as of an earlier moment.

    Whose row somebody else holds is being renewed or registered anew at this moment. Nobody waits for that: who
    renews may wait for a bucket that is held here.
    """
    wanted = set(owners)
    leases = [_Lease(*row) for row in await transaction.rows(HOLD_OWNERS, sorted(wanted))]
    missed = wanted - {lease.worker for lease in leases}
    busy = {row[0] for row in await transaction.rows(KNOWN_OWNERS, sorted(missed))} if missed else set()
    now_us = await transaction.tick()
    judged_us = now_us if as_of_us is None else min(now_us, as_of_us)
    return busy | {lease.worker for lease in leases if not lease.ended and lease.until_us > judged_us}
