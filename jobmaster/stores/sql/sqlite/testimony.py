"""What a supervisor says about a dead child, and what follows at once: who ran there runs again without an adoption."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from jobmaster.rules.storable import cleaned
from jobmaster.stores.sql.job_rows import PROCESSING, QUEUED, job_row
from jobmaster.stores.sql.records import readable
from jobmaster.stores.sql.sqlite.read import remove
from jobmaster.stores.sql.sqlite.recover import recover
from jobmaster.stores.sql.sqlite.rows import INSERT_JOBS, states

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Blame
    from jobmaster.stores.sql.job_rows import Row, State
    from jobmaster.stores.sql.sqlite.transaction import Transaction

# Evidence that comes after the job was taken back is of a run that was counted then, if it was one.
ADD_BLAME = """
INSERT INTO jm_blame (worker, job_id, reason, created_us) SELECT ?1, ?2, ?3, ?4
    WHERE NOT EXISTS (SELECT 1 FROM jm_job WHERE id = ?2 AND NOT (status IN (3, 4, 6) AND worker = ?1))
    ON CONFLICT DO NOTHING
"""
# What ran beside the one that is to blame. SQLite takes the partial index where its very condition stands here.
# By the row's worker, not by the bucket's owner: the bucket may have been marked lost before the testimony came.
RUNNING = """
SELECT j.id FROM jm_bucket b CROSS JOIN jm_job j
WHERE j.bucket = b.id AND j.status IN (3, 4, 6) AND j.status = 4 AND j.worker = ?
"""
MESSAGES = "SELECT job_id, gen, bucket, seq, due_us, payload FROM jm_message WHERE job_id IN ({keys})"
NUMBERS = "SELECT job_id, gen, bucket, seq FROM jm_message WHERE job_id IN ({keys})"


def hear(transaction: Transaction, worker: int, blame: Sequence[Blame]) -> dict[JobKey, str]:
    """Store a testimony: reasons for who is to blame, and an excuse for what ran beside them. All that it names."""
    said = {one.key: cleaned(one.reason) for one in blame}
    for (key,) in transaction.rows(RUNNING, (worker,)):
        said.setdefault(key, "")
    for key, reason in said.items():
        transaction.execute(ADD_BLAME, (worker, key, reason, transaction.now_us))
    return said


def recover_named(transaction: Transaction, worker: int, said: dict[JobKey, str], buckets: Collection[int]) -> None:
    """Recover what the dead worker ran in these buckets, which it has lost in this transaction."""
    if not said or not buckets:
        return
    keys = list(said)
    rows = states(transaction, keys)
    _write_unnoted(transaction, worker, [key for key in keys if said[key] and key not in rows], buckets)
    ran = [
        row
        for row in states(transaction, keys).values()
        if row.worker == worker
        and row.bucket in buckets
        and (row.status == PROCESSING or (row.status == QUEUED and said[row.key]))
    ]
    recover(transaction, ran)
    remove_messages_of(transaction, ran)


def remove_messages_of(transaction: Transaction, rows: Sequence[State]) -> None:
    """Where messages are in this database: those by which recovered rows came are nobody's any more."""
    if not (transaction.standalone and rows):
        return
    moved = {(row.key, row.gen, row.bucket) for row in rows}
    found = [row for row in transaction.by_keys(NUMBERS, [row.key for row in rows]) if tuple(row[:3]) in moved]
    found.sort(key=_bucket)
    for bucket, messages in groupby(found, _bucket):
        remove(transaction, bucket, [row[3] for row in messages])


def _bucket(row: Row) -> int:
    return int(row[2])


def _write_unnoted(transaction: Transaction, worker: int, keys: Sequence[JobKey], buckets: Collection[int]) -> None:
    """Runs that had no row yet get the one that their worker would have written next."""
    if not (transaction.standalone and keys):
        return
    new: dict[JobKey, Row] = {}
    for key, gen, bucket, _, due_us, payload in transaction.by_keys(MESSAGES, list(keys)):
        envelope = readable(payload)
        if bucket in buckets and envelope is not None and not envelope.at_most_once:
            new[key] = job_row(
                key, envelope, payload, status=QUEUED, due_us=due_us, now_us=transaction.now_us, gen=gen,
                bucket=bucket, worker=worker,
            )  # fmt: skip
    transaction.insert(INSERT_JOBS, list(new.values()))
