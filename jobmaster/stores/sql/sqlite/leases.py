"""Workers, their leases and renewals, and buckets whose owner is lost (R4, R6 to R8, R15)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from jobmaster.model.worker import Demand, Grant, Registered, WorkerRecord
from jobmaster.ports.answers import HigherBoot
from jobmaster.stores.sql.job_rows import STATE, State
from jobmaster.stores.sql.records import BOOT, BUCKET, WORKER_RECORD, bucket_of, predecessor_of, worker_of
from jobmaster.stores.sql.sqlite.buckets import lose
from jobmaster.stores.sql.sqlite.commands import unanswered
from jobmaster.stores.sql.sqlite.recover import recover
from jobmaster.stores.sql.sqlite.testimony import hear, recover_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.job import Blame
    from jobmaster.model.worker import Registration, Renewal
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

NEWEST_BOOT = f"SELECT {BOOT} FROM jm_worker WHERE name = ? ORDER BY boot DESC LIMIT 1"
INSERT_WORKER = """
INSERT INTO jm_worker (name, boot, agent, lanes, mode, host, pid, slots, version, schema_version, started_us,
    renewed_us, lease_until_us, stats, demands)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', '[]') RETURNING id
"""
END_LEASE = "UPDATE jm_worker SET ended = 1, lease_until_us = min(lease_until_us, ?) WHERE id = ?"

WORKER = "SELECT id, agent, lanes, number, ended FROM jm_worker WHERE id = ?"
PROLONG = """
UPDATE jm_worker SET number = ?, renewed_us = ?, lease_until_us = ?, stopping = ?, stats = ?, demands = ? WHERE id = ?
"""
GRANTED = f"SELECT {BUCKET} FROM jm_bucket WHERE owner = ? AND status IN (1, 2) ORDER BY id"
SET_DEPTH = "UPDATE jm_bucket SET depth = ? WHERE id = ? AND depth <> ?"
# SQLite takes the partial index only where its very condition stands in the statement.
FORGOTTEN = f"""
SELECT {STATE} FROM jm_job WHERE bucket = ? AND status IN (3, 4, 6) AND status <> 3 AND touched_us < ?
"""
FREE = """
SELECT id FROM jm_bucket WHERE agent = ?1 AND lane IN (SELECT value FROM json_each(?2))
    AND (status = 5 OR (status = 1 AND owner IS NULL)) ORDER BY id LIMIT ?3
"""
ADOPT = "UPDATE jm_bucket SET owner = ?, epoch = epoch + 1, status = 1, adopted_us = ?, left_us = ? WHERE id = ?"
LIVING = "SELECT count(*) FROM jm_worker WHERE ended = 0 AND lease_until_us >= ?"
CANCELS = "SELECT number, job_id FROM jm_tombstone WHERE number > ? ORDER BY number LIMIT 2000"
DEMANDS = """
SELECT demands FROM jm_worker WHERE ended = 0 AND stopping = 0 AND agent = ? AND id <> ? AND renewed_us > ?
    AND demands <> '[]'
"""

LOSABLE = "SELECT id FROM jm_bucket WHERE owner = ? AND status IN (1, 2, 4)"
OWNERS = """
SELECT DISTINCT b.owner, w.lease_until_us, w.ended FROM jm_bucket b LEFT JOIN jm_worker w ON w.id = b.owner
WHERE b.owner IS NOT NULL AND b.status IN (1, 2, 4)
"""
ONE_BUCKET = f"SELECT {BUCKET} FROM jm_bucket WHERE id = ?"

WORKERS = f"SELECT {WORKER_RECORD} FROM jm_worker"
LIST_WORKERS = WORKERS + " ORDER BY ended OR lease_until_us <= ?, name, boot DESC"
SOME_WORKERS = WORKERS + " WHERE id IN (SELECT value FROM json_each(?))"

_demands = msgspec.json.Decoder(list[Demand])
_encode = msgspec.json.Encoder().encode


def register(transaction: Transaction, registration: Registration) -> Registered:
    """R4."""
    now_us = transaction.now_us
    row = transaction.row(NEWEST_BOOT, (registration.name,))
    if row is not None and row[1] == registration.boot:
        return Registered(row[0], now_us)
    if row is not None and row[1] > registration.boot:
        raise HigherBoot(registration.name, row[1])
    replaced = None
    if row is not None:
        replaced = None if transaction.setting.gone(row[0]) else predecessor_of(row, now_us)
        transaction.execute(END_LEASE, (now_us, row[0]))
    new = registration
    values = (
        new.name, new.boot, new.agent, _encode(new.lanes).decode(), new.mode.value, new.host, new.pid, new.slots,
        new.version, new.schema_version, now_us, now_us, now_us + transaction.rules.lease_us,
    )  # fmt: skip
    return Registered(transaction.rows(INSERT_WORKER, values)[0][0], now_us, replaced)


def renew(transaction: Transaction, renewals: Sequence[Renewal]) -> list[Grant]:
    """R6, R8, R15': first all renewals, then all answers, so that each answer knows the whole process tree."""
    for renewal in renewals:
        row = transaction.row(WORKER, (renewal.worker,))
        if row is not None and not row[4] and renewal.number >= row[3]:
            _renew(transaction, renewal, row)
    return [_grant(transaction, renewal) for renewal in renewals]


def _renew(transaction: Transaction, renewal: Renewal, worker: Row) -> None:
    now_us = transaction.now_us
    demands = [] if renewal.stopping else renewal.demands
    until = now_us + transaction.rules.lease_us
    values = (renewal.number, now_us, until, renewal.stopping, renewal.stats, _encode(demands).decode(), renewal.worker)
    transaction.execute(PROLONG, values)
    for bucket in granted(transaction, renewal.worker):
        depth = renewal.depths.get(bucket.id)
        if depth is not None:
            transaction.execute(SET_DEPTH, (depth, bucket.id, depth))
        _reconcile(transaction, renewal, bucket.id)
    if renewal.adopt > 0 and not renewal.stopping:
        _adopt(transaction, renewal, worker)


def _reconcile(transaction: Transaction, renewal: Renewal, bucket: int) -> None:
    """R8: rows that the worker does not have, written before it counted."""
    rows = transaction.rows(FORGOTTEN, (bucket, renewal.cut_us))
    if rows:
        held = set(renewal.held)
        missing = [State(*row) for row in rows if (row[0], row[2]) not in held]
        recover(transaction, missing, living=(renewal.worker,))


def _adopt(transaction: Transaction, renewal: Renewal, worker: Row) -> None:
    """R15'."""
    now_us = transaction.now_us
    for (bucket,) in transaction.rows(FREE, (worker[1], _text(worker[2]), renewal.adopt)):
        transaction.execute(ADOPT, (renewal.worker, now_us, now_us, bucket))


def granted(transaction: Transaction, worker: int) -> list[Bucket]:
    """The buckets in which the worker may run jobs."""
    return [bucket_of(row) for row in transaction.rows(GRANTED, (worker,))]


def _grant(transaction: Transaction, renewal: Renewal) -> Grant:
    now_us = transaction.now_us
    worker = transaction.row(WORKER, (renewal.worker,))
    if worker is None or worker[4]:
        return Grant(number=renewal.number, now_us=now_us, cancels_upto=renewal.cancels_after, gone=True)
    buckets = granted(transaction, renewal.worker)
    cancels = transaction.rows(CANCELS, (renewal.cancels_after,))
    return Grant(
        number=renewal.number,
        now_us=now_us,
        buckets=buckets,
        cancels=[key for _, key in cancels],
        cancels_upto=cancels[-1][0] if cancels else renewal.cancels_after,
        commands=unanswered(transaction, renewal.worker),
        demands=_demands_on(transaction, worker, buckets),
        workers=transaction.rows(LIVING, (now_us,))[0][0],
    )


def _demands_on(transaction: Transaction, worker: Row, buckets: Sequence[Bucket]) -> list[Demand]:
    """What hungry workers of the same agent would take from the lanes and priorities of this one."""
    offered = {(bucket.lane, bucket.priority) for bucket in buckets if bucket.status.value == 1}
    fresh = transaction.now_us - transaction.rules.lease_us // 2
    asked = transaction.rows(DEMANDS, (worker[1], worker[0], fresh))
    found = [demand for (text,) in asked for demand in _demands.decode(text)]
    return [demand for demand in found if (demand.lane, demand.priority) in offered]


def end_worker(transaction: Transaction, worker: int, blame: Sequence[Blame] | None) -> None:
    """End a lease at once; its buckets are lost. What a testimony names is recovered with them."""
    said = hear(transaction, worker, blame) if blame is not None else {}
    transaction.execute(END_LEASE, (transaction.now_us, worker))
    lost = [bucket for (bucket,) in transaction.rows(LOSABLE, (worker,))]
    for bucket in lost:
        lose(transaction, bucket)
    recover_named(transaction, worker, said, lost)


def mark_lost(transaction: Transaction, limit: int, as_of_us: int | None) -> tuple[list[Bucket], list[int]]:
    """R15: the buckets, and the workers that were ended because their process is gone: they can't come back."""
    lost: list[Bucket] = []
    ended: list[int] = []
    for worker, gone in lost_owners(transaction, as_of_us):
        if gone:
            transaction.execute(END_LEASE, (transaction.now_us, worker))
            ended.append(worker)
        for (bucket,) in transaction.rows(LOSABLE, (worker,))[: limit - len(lost)]:
            lose(transaction, bucket)
            lost.append(bucket_of(transaction.rows(ONE_BUCKET, (bucket,))[0]))
    return lost, ended


def lost_owners(transaction: Transaction, as_of_us: int | None) -> list[tuple[int, bool]]:
    """Owners of buckets whose lease has ended, each with: is its process gone (as its lock file says)."""
    found = []
    judged_us = transaction.now_us if as_of_us is None else min(transaction.now_us, as_of_us)
    for worker, until, ended in transaction.rows(OWNERS):
        over = until is None or ended or until <= judged_us
        gone = not over and transaction.setting.gone(worker)
        if over or gone:
            found.append((worker, gone))
    return found


def list_workers(transaction: Transaction) -> list[WorkerRecord]:
    """All workers, living first."""
    return [worker_of(row, transaction.now_us) for row in transaction.rows(LIST_WORKERS, (transaction.now_us,))]


def workers_by_id(transaction: Transaction, ids: Sequence[int]) -> list[WorkerRecord]:
    """Those of the ids that are known."""
    return [worker_of(row, transaction.now_us) for row in transaction.rows(SOME_WORKERS, (json.dumps(list(ids)),))]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
