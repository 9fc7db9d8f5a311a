"""What a supervisor says about a dead child, and what follows at once: who ran there runs again without an adoption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.rules.storable import cleaned
from jobmaster.stores.sql.job_rows import ASSIGNED, PROCESSING, QUEUED, job_row
from jobmaster.stores.sql.postgresql.read import REMOVE
from jobmaster.stores.sql.postgresql.recover import recover
from jobmaster.stores.sql.postgresql.rows import insert_absent, states
from jobmaster.stores.sql.records import readable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Blame
    from jobmaster.stores.sql.job_rows import Row, State
    from jobmaster.stores.sql.postgresql.transaction import Transaction

OPEN = (ASSIGNED, PROCESSING, QUEUED)

# By the row's worker, not by the bucket's owner: the bucket may have been marked lost before the testimony came.
RUNNING = """
SELECT j.id FROM jm_bucket b JOIN jm_job j ON j.bucket = b.id AND j.status IN (3, 4, 6) AND j.status = 4
WHERE j.worker = $1
"""
HOLD_BLAMED = "SELECT id, status, worker FROM jm_job WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
ADD_BLAMES = "INSERT INTO jm_blame (job_id, worker, reason, created_us)"
BLAME_TYPES = ("uuid", "bigint", "text", "bigint")
MESSAGES = "SELECT job_id, gen, bucket, due_us, payload FROM jm_message WHERE job_id = ANY($1::uuid[])"
NUMBERS = "SELECT job_id, gen, bucket, seq FROM jm_message WHERE job_id = ANY($1::uuid[])"


async def hear(transaction: Transaction, worker: int, blame: Sequence[Blame]) -> dict[JobKey, str]:
    """Store a testimony: reasons for who is to blame, and an excuse for what ran beside them. All that it names."""
    said = {one.key: cleaned(one.reason) for one in blame}
    for (key,) in await transaction.rows(RUNNING, worker):
        said.setdefault(key, "")
    # Evidence that comes after the job was taken back is of a run that was counted then, if it was one.
    rows = await transaction.rows(HOLD_BLAMED, list(said))
    gone = {key for key, status, owner in rows if status not in OPEN or owner != worker}
    blames = [(key, worker, said[key], transaction.now_us) for key in sorted(said) if key not in gone]
    await transaction.insert(ADD_BLAMES, BLAME_TYPES, blames, "ON CONFLICT (job_id, worker) DO NOTHING")
    return said


async def recover_named(
    transaction: Transaction, worker: int, said: dict[JobKey, str], buckets: Collection[int]
) -> None:
    """Recover what the dead worker ran in these buckets, which it has lost in this transaction."""
    if not said or not buckets:
        return
    keys = list(said)
    rows = await states(transaction, keys)
    await _write_unnoted(transaction, worker, [key for key in keys if said[key] and key not in rows], buckets)
    ran = [
        row
        for row in (await states(transaction, keys)).values()
        if row.worker == worker
        and row.bucket in buckets
        and (row.status == PROCESSING or (row.status == QUEUED and said[row.key]))
    ]
    await recover(transaction, ran)
    await remove_messages_of(transaction, ran)


async def remove_messages_of(transaction: Transaction, rows: Sequence[State]) -> None:
    """Where messages are in this database: those by which recovered rows came are nobody's any more."""
    if not (transaction.standalone and rows):
        return
    moved = {(row.key, row.gen, row.bucket) for row in rows}
    found = await transaction.rows(NUMBERS, [row.key for row in rows])
    numbers = sorted(seq for key, gen, bucket, seq in found if (key, gen, bucket) in moved)
    if numbers:
        await transaction.changed(REMOVE, numbers)


async def _write_unnoted(
    transaction: Transaction, worker: int, keys: Sequence[JobKey], buckets: Collection[int]
) -> None:
    """Runs that had no row yet get the one that their worker would have written next."""
    if not (transaction.standalone and keys):
        return
    new: dict[JobKey, Row] = {}
    for key, gen, bucket, due_us, payload in await transaction.rows(MESSAGES, list(keys)):
        envelope = readable(payload)
        if bucket in buckets and envelope is not None and not envelope.at_most_once:
            new[key] = job_row(
                key, envelope, payload, status=QUEUED, due_us=due_us, now_us=transaction.now_us, gen=gen,
                bucket=bucket, worker=worker,
            )  # fmt: skip
    await insert_absent(transaction, list(new.values()))
