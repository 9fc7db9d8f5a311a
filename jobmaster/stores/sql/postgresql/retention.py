"""Retention by rows, and the archive. Each call does a bounded amount. Whole weeks go in weeks.py."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from jobmaster.model.aged import AgedJob, decode_aged, encode_aged
from jobmaster.model.reasons import RESULT_EXPIRED
from jobmaster.stores.sql.job_rows import SUCCEEDED
from jobmaster.stores.sql.new_rows import archived_attempts, archived_row
from jobmaster.stores.sql.postgresql.hold import ATTEMPTS, RECORDS
from jobmaster.stores.sql.postgresql.recover import ADD_ATTEMPTS, ATTEMPT_TYPES, ON_REPEATED_ATTEMPT
from jobmaster.stores.sql.postgresql.rows import insert_jobs, states
from jobmaster.stores.sql.postgresql.weeks import tables_to_purge
from jobmaster.stores.sql.records import attempt_of, record_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import AttemptRecord
    from jobmaster.stores.sql.postgresql.transaction import Transaction

# In no order: the index on the end of jobs tells where old ones lie, not how they follow each other.
OLD = "SELECT id FROM {table} WHERE finished_us IS NOT NULL AND finished_us < $1 LIMIT $2"
OLD_AND_HELD = f"{OLD} FOR UPDATE SKIP LOCKED"
PASSED = """
SELECT id FROM jm_job WHERE result_until_us IS NOT NULL AND result_until_us <= $1 ORDER BY result_until_us LIMIT $2
FOR UPDATE SKIP LOCKED
"""
FORGET = """
UPDATE jm_job SET result = NULL, result_until_us = NULL, reason = CASE status WHEN $2 THEN $3 ELSE reason END
WHERE id = ANY($1::uuid[])
"""
DELETE = tuple(
    f"DELETE FROM {table} WHERE {column} = ANY($1::uuid[])"
    for table, column in (("jm_job", "id"), ("jm_attempt", "job_id"), ("jm_blame", "job_id"))
)
OLD_STONES = """
DELETE FROM jm_tombstone
WHERE number = ANY(ARRAY(SELECT number FROM jm_tombstone ORDER BY number LIMIT $2)) AND created_us < $1
"""
OLD_COMMANDS = """
DELETE FROM jm_command WHERE id = ANY(ARRAY(SELECT id FROM jm_command ORDER BY id LIMIT $2)) AND created_us < $1
"""
OLD_WORKERS = """
DELETE FROM jm_worker WHERE id = ANY(ARRAY(
    SELECT w.id FROM jm_worker w
    WHERE w.lease_until_us < $1 AND NOT EXISTS (SELECT FROM jm_bucket b WHERE b.owner = w.id) LIMIT $2
)) RETURNING id
"""
# The evidence of a purged worker can't be told a second time.
BLAMES_OF_GONE = "DELETE FROM jm_blame WHERE worker = ANY($1::bigint[]) AND counted = 1"
AGED = f"{RECORDS} WHERE id = ANY($1::uuid[])"


async def purge(transaction: Transaction, before_us: int, limit: int) -> int:
    """Retention."""
    now_us = await transaction.tick()
    old: list[JobKey] = []
    for table in await tables_to_purge(transaction, before_us):
        statement = OLD_AND_HELD.format(table=table)
        old += [row[0] for row in await transaction.rows(statement, before_us, limit - len(old))]
    await delete_jobs(transaction, old)
    await transaction.changed(OLD_STONES, now_us - transaction.rules.tombstone_us, limit)
    await transaction.changed(OLD_COMMANDS, before_us, limit)
    gone = [row[0] for row in await transaction.rows(OLD_WORKERS, before_us, limit)]
    if gone:
        await transaction.changed(BLAMES_OF_GONE, gone)
    return len(old)


async def forget_results(transaction: Transaction, limit: int) -> int:
    """Results that were to be kept for a shorter time than their jobs."""
    passed = [row[0] for row in await transaction.rows(PASSED, await transaction.tick(), limit)]
    if passed:
        await transaction.changed(FORGET, passed, SUCCEEDED, RESULT_EXPIRED)
    return len(passed)


async def delete_jobs(transaction: Transaction, keys: Sequence[JobKey]) -> None:
    """Rows with their attempts and evidence."""
    if keys:
        for statement in DELETE:
            await transaction.changed(statement, list(keys))


async def aged(transaction: Transaction, before_us: int, limit: int) -> list[bytes]:
    """Final jobs as records for an archive."""
    keys = [row[0] for row in await transaction.rows(OLD.format(table="jm_job"), before_us, limit)]
    rows = {row[0]: row for row in await transaction.rows(AGED, keys)}
    attempts: dict[JobKey, list[AttemptRecord]] = defaultdict(list)
    for row in await transaction.rows(ATTEMPTS, keys):
        attempts[row[0]].append(attempt_of(row))
    # One that was run again by a person between the two statements is no aged job any more.
    found = ((key, record_of(rows[key], whole=True)) for key in keys if key in rows)
    return [encode_aged(AgedJob(record, attempts[key])) for key, record in found if record.status.is_final]


async def import_aged(transaction: Transaction, records: Sequence[bytes]) -> list[JobKey]:
    """What is there already stays as it is."""
    jobs = {job.record.key: job for job in map(decode_aged, records)}
    present = await states(transaction, list(jobs))
    new = [job for key, job in jobs.items() if key not in present]
    await insert_jobs(transaction, [archived_row(job) for job in new])
    attempts = [attempt for job in new for attempt in archived_attempts(job)]
    await transaction.insert(ADD_ATTEMPTS, ATTEMPT_TYPES, attempts, ON_REPEATED_ATTEMPT)
    return list(jobs)


async def delete_final(transaction: Transaction, keys: Sequence[JobKey]) -> int:
    """Delete those of the keys that have ended."""
    ended = [key for key, row in (await states(transaction, keys)).items() if row.final]
    await delete_jobs(transaction, ended)
    return len(ended)
