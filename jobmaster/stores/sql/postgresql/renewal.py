"""The renewal of a process tree (R6, R8, R15'): six statements where nothing has changed, however many its workers are.

Everything is looked at without locks, but the workers' own rows; what has to change is then held and looked at again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from jobmaster.stores.sql.job_rows import STATE, State
from jobmaster.stores.sql.postgresql.news import Worker, news, settled
from jobmaster.stores.sql.postgresql.recover import recover
from jobmaster.stores.sql.postgresql.transaction import CLOCK
from jobmaster.stores.sql.records import BUCKET, bucket_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Grant, Renewal
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

# The lease begins before a wait for the row's lock may: never later than the worker trusts it.
PROLONG = f"""
UPDATE jm_worker w SET renewed_us = coalesce($1::bigint, {CLOCK}), lease_until_us = coalesce($1::bigint, {CLOCK}) + $2,
    number = n.number, stopping = n.stopping, stats = n.stats, demands = n.demands
FROM unnest($3::bigint[], $4::bigint[], $5::smallint[], $6::bytea[], $7::bytea[])
    AS n(worker, number, stopping, stats, demands)
WHERE w.id = n.worker AND w.ended = 0 AND n.number >= w.number
RETURNING w.id, w.agent, w.lanes, w.renewed_us
"""
OVERTAKEN = "SELECT id, agent, lanes FROM jm_worker WHERE id = ANY($1::bigint[]) AND ended = 0"

GRANTED_OR_FREE = f"""
SELECT {BUCKET} FROM jm_bucket
WHERE (owner = ANY($1::bigint[]) AND status IN (1, 2)) OR ($2 AND owner IS NULL AND status IN (1, 5)) ORDER BY id
"""
FORGOTTEN = """
SELECT j.id, j.gen, j.bucket FROM unnest($1::bigint[], $2::bigint[]) AS b(bucket, cut_us)
JOIN jm_job j ON j.bucket = b.bucket AND j.status IN (3, 4, 6) AND j.status <> 3 AND j.touched_us < b.cut_us
"""
HOLD_FORGOTTEN = f"""
SELECT {", ".join(f"j.{name.strip()}" for name in STATE.split(","))}
FROM jm_job j JOIN unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[]) AS f(key, gen, bucket, cut_us)
    ON j.id = f.key AND j.gen = f.gen AND j.bucket = f.bucket AND j.touched_us < f.cut_us
WHERE j.id = ANY($1::uuid[]) AND j.status IN (4, 6) ORDER BY j.id FOR UPDATE OF j
"""

HOLD_FREE = """
SELECT id FROM jm_bucket WHERE id = ANY($1::bigint[]) AND owner IS NULL AND status IN (1, 5)
ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
"""
ADOPT = f"""
UPDATE jm_bucket SET owner = a.worker, epoch = epoch + 1, status = 1, adopted_us = $3, left_us = $3
FROM unnest($1::bigint[], $2::bigint[]) AS a(bucket, worker) WHERE id = a.bucket RETURNING {BUCKET}
"""
SET_DEPTHS = """
UPDATE jm_bucket SET depth = d.waiting
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d(bucket, waiting, worker)
WHERE id = d.bucket AND owner = d.worker
"""

_encode = msgspec.json.Encoder().encode


async def renew(transaction: Transaction, renewals: Sequence[Renewal]) -> list[Grant]:
    """R6, R8, R15': first all renewals, then all answers, so that each answer knows the whole process tree."""
    if not renewals:
        return []
    workers = await _prolong(transaction, renewals)
    applied = [one for one in renewals if one.worker in workers and workers[one.worker].prolonged]
    hungry = [one for one in applied if one.adopt > 0 and not one.stopping]
    granted, free = await _look(transaction, workers, adopting=bool(hungry))
    forgotten = await _forgotten(transaction, applied, granted)
    told = await news(transaction, renewals, workers.values())
    # From here on rows are held: buckets before jobs, and at last the cancels.
    await _set_depths(transaction, applied, granted)
    for bucket in await _adopt(transaction, hungry, workers, free):
        granted[bucket.owner or 0].append(bucket)
    await _recover(transaction, forgotten, [one.worker for one in applied])
    told = await settled(transaction, told)
    return [told.grant(one, workers.get(one.worker), granted[one.worker]) for one in renewals]


async def _prolong(transaction: Transaction, renewals: Sequence[Renewal]) -> dict[int, Worker]:
    """The leases; then the clock is read. By id: workers that live, each with whether its lease was prolonged."""
    newest = {one.worker: one for one in sorted(renewals, key=lambda one: (one.worker, one.number))}
    columns = zip(
        *((w, one.number, int(one.stopping), one.stats, _demanded(one)) for w, one in newest.items()), strict=True
    )
    clock = transaction.setting.clock_us
    now_us = None if clock is None else clock()
    rows = await transaction.rows(PROLONG, now_us, transaction.rules.lease_us, *map(list, columns))
    workers = {row[0]: _worker(row, prolonged=True) for row in rows}
    if missed := [worker for worker in newest if worker not in workers]:
        found = await transaction.rows(OVERTAKEN, missed)
        workers.update((row[0], _worker(row, prolonged=False)) for row in found)
        await transaction.tick()
    else:
        transaction.now_us = max(row[3] for row in rows)
    return workers


def _demanded(renewal: Renewal) -> bytes:
    return b"[]" if renewal.stopping else _encode(renewal.demands)


def _worker(row: Row, *, prolonged: bool) -> Worker:
    return Worker(row[0], row[1], frozenset(json.loads(row[2])), prolonged)


async def _look(
    transaction: Transaction, workers: Iterable[int], *, adopting: bool
) -> tuple[defaultdict[int, list[Bucket]], list[Bucket]]:
    """The buckets in which each worker may run jobs, and (if `adopting`) those that nobody has."""
    granted: defaultdict[int, list[Bucket]] = defaultdict(list)
    free = []
    for row in await transaction.rows(GRANTED_OR_FREE, list(workers), adopting):
        bucket = bucket_of(row)
        if bucket.owner is None:
            free.append(bucket)
        else:
            granted[bucket.owner].append(bucket)
    return granted, free


# -- R8


async def _forgotten(
    transaction: Transaction, renewals: Sequence[Renewal], granted: dict[int, list[Bucket]]
) -> list[tuple[JobKey, int, int, int]]:
    """Rows that a worker does not have, written before it counted: key, gen, bucket, cut."""
    cuts = {bucket.id: (one.cut_us, one) for one in renewals if one.cut_us for bucket in granted.get(one.worker, ())}
    if not cuts:
        return []
    rows = await transaction.rows(FORGOTTEN, list(cuts), [cut_us for cut_us, _ in cuts.values()])
    held: dict[int, set[tuple[JobKey, int]]] = {}
    missing = []
    for key, gen, bucket in rows:
        cut_us, one = cuts[bucket]
        if one.worker not in held:
            held[one.worker] = set(one.held)
        if (key, gen) not in held[one.worker]:
            missing.append((key, gen, bucket, cut_us))
    return missing


async def _recover(
    transaction: Transaction, forgotten: Sequence[tuple[JobKey, int, int, int]], living: Sequence[int]
) -> None:
    """Judged again once the rows are held: their worker may be starting them at this moment."""
    if forgotten:
        rows = await transaction.rows(HOLD_FORGOTTEN, *map(list, zip(*forgotten, strict=True)))
        await recover(transaction, [State(*row) for row in rows], living=living)


# -- R15'


async def _adopt(
    transaction: Transaction, hungry: Sequence[Renewal], workers: dict[int, Worker], free: Sequence[Bucket]
) -> list[Bucket]:
    """Free buckets of each worker's agent and lanes. Those that somebody holds are passed over: nobody waits here."""
    pairs: list[tuple[int, int]] = []
    groups: dict[tuple[str, frozenset[str]], list[Renewal]] = {}
    for one in hungry:
        worker = workers[one.worker]
        groups.setdefault((worker.agent, worker.lanes), []).append(one)
    for (agent, lanes), takers in groups.items():
        taken = {bucket for bucket, _ in pairs}
        fits = [b.id for b in free if b.agent == agent and b.lane in lanes and b.id not in taken]
        if fits:
            held = await transaction.rows(HOLD_FREE, fits, sum(one.adopt for one in takers))
            pairs += zip((row[0] for row in held), _turns(takers), strict=False)
    if not pairs:
        return []
    # The clock is read after the locks: rows of an earlier owner were touched before the bucket is adopted.
    now_us = await transaction.tick()
    rows = await transaction.rows(ADOPT, *map(list, zip(*pairs, strict=True)), now_us)
    return sorted((bucket_of(row) for row in rows), key=lambda bucket: bucket.id)


def _turns(takers: Sequence[Renewal]) -> Iterator[int]:
    """Whose turn it is to get a bucket: the first worker's as often as it asked, then the next one's."""
    return (one.worker for one in takers for _ in range(one.adopt))


async def _set_depths(transaction: Transaction, renewals: Sequence[Renewal], granted: dict[int, list[Bucket]]) -> None:
    """Store the numbers of waiting messages that have changed.

    Who writes in the bucket's name waits for this, and is waited for: so it comes late, and before any other wait.
    """
    changed = []
    for one in renewals:
        for place, bucket in enumerate(granted.get(one.worker, ())):
            depth = one.depths.get(bucket.id, bucket.depth)
            if depth != bucket.depth:
                changed.append((bucket.id, depth, one.worker))
                granted[one.worker][place] = msgspec.structs.replace(bucket, depth=depth)
    if changed:
        await transaction.changed(SET_DEPTHS, *map(list, zip(*sorted(changed), strict=True)))
