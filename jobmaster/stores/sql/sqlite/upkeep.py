"""The deadline sweep (R17', I5), retention, and the archive. Each call does a bounded amount and says how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.aged import AgedJob, decode_aged, encode_aged
from jobmaster.model.reasons import RESULT_EXPIRED
from jobmaster.stores.sql.job_rows import STATE, SUCCEEDED, State
from jobmaster.stores.sql.new_rows import archived_attempts, archived_row
from jobmaster.stores.sql.records import attempt_of, record_of
from jobmaster.stores.sql.sqlite.look_up import ATTEMPTS, RECORDS
from jobmaster.stores.sql.sqlite.recover import ADD_ATTEMPT, recover, tell_ended
from jobmaster.stores.sql.sqlite.rows import INSERT_JOBS, states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

NEXT_POINTED = "SELECT min(bucket) FROM jm_job WHERE status IN (3, 4, 6) AND bucket > ?"
KNOWN = "SELECT 1 FROM jm_bucket WHERE id = ?"
STRANDED = f"""
SELECT {STATE} FROM jm_job WHERE bucket = ? AND status IN (3, 4, 6) AND touched_us < ? LIMIT ?
"""
EXPIRED = """
SELECT id FROM jm_job
WHERE status = 2 AND expires_us IS NOT NULL AND expires_us <= ? AND (trigger_kind = 1 OR attempts = 0)
ORDER BY expires_us LIMIT ?
"""
# An occurrence of a schedule was missed: its misfire policy says so, and nothing has failed.
EXPIRE = """
UPDATE jm_job SET status = CASE trigger_kind WHEN 1 THEN 7 ELSE 8 END,
    reason = CASE trigger_kind WHEN 1 THEN 'expired' ELSE 'missed' END, finished_us = ?, touched_us = ? WHERE id = ?
"""

OLD = "SELECT id FROM jm_job WHERE finished_us IS NOT NULL AND finished_us < ? ORDER BY finished_us LIMIT ?"
PASSED = """
SELECT id FROM jm_job WHERE result_until_us IS NOT NULL AND result_until_us <= ? ORDER BY result_until_us LIMIT ?
"""
FORGET = """
UPDATE jm_job SET result = NULL, result_until_us = NULL, reason = CASE status WHEN ?1 THEN ?2 ELSE reason END
WHERE id = ?3
"""
DELETE_JOBS = "DELETE FROM jm_job WHERE id IN ({keys})"
DELETE_ATTEMPTS = "DELETE FROM jm_attempt WHERE job_id IN ({keys})"
DELETE_BLAMES = "DELETE FROM jm_blame WHERE job_id IN ({keys})"
OLD_STONES = """
DELETE FROM jm_tombstone WHERE number IN (SELECT number FROM jm_tombstone ORDER BY number LIMIT ?2) AND created_us < ?1
"""
OLD_COMMANDS = """
DELETE FROM jm_command WHERE id IN (SELECT id FROM jm_command ORDER BY id LIMIT ?2) AND created_us < ?1
"""
OLD_WORKERS = """
SELECT id FROM jm_worker WHERE lease_until_us < ?1 AND id NOT IN (SELECT owner FROM jm_bucket WHERE owner IS NOT NULL)
    LIMIT ?2
"""
DELETE_WORKER = "DELETE FROM jm_worker WHERE id = ?"
# The evidence of a purged worker can't be told a second time.
BLAMES_OF_GONE = "DELETE FROM jm_blame WHERE worker = ? AND counted = 1"

AGED = RECORDS + "WHERE id IN ({keys})"


def sweep(transaction: Transaction, overdue_us: int, limit: int) -> int:
    """R17': rows whose bucket is gone; and held rows past their deadline."""
    done = _take_back_stranded(transaction, transaction.now_us - overdue_us, limit)
    expired = [row[0] for row in transaction.rows(EXPIRED, (transaction.now_us, max(limit - done, 0)))]
    for key in expired:
        transaction.execute(EXPIRE, (transaction.now_us, transaction.now_us, key))
    tell_ended(transaction, expired)
    return done + len(expired)


def _take_back_stranded(transaction: Transaction, before_us: int, limit: int) -> int:
    done = 0
    for bucket in missing_buckets(transaction):
        rows = [State(*row) for row in transaction.rows(STRANDED, (bucket, before_us, max(limit - done, 0)))]
        recover(transaction, rows)
        done += len(rows)
    return done


def missing_buckets(transaction: Transaction) -> list[int]:
    """Buckets that open rows point at and that are gone: one step in the index per bucket."""
    missing = []
    last = -(2**63)
    while (bucket := transaction.rows(NEXT_POINTED, (last,))[0][0]) is not None:
        last = bucket
        if transaction.row(KNOWN, (bucket,)) is None:
            missing.append(bucket)
    return missing


def purge(transaction: Transaction, before_us: int, limit: int) -> int:
    """Retention."""
    old = [row[0] for row in transaction.rows(OLD, (before_us, limit))]
    delete_jobs(transaction, old)
    transaction.execute(OLD_STONES, (transaction.now_us - transaction.rules.tombstone_us, limit))
    transaction.execute(OLD_COMMANDS, (before_us, limit))
    for (worker,) in transaction.rows(OLD_WORKERS, (before_us, limit)):
        transaction.execute(DELETE_WORKER, (worker,))
        transaction.execute(BLAMES_OF_GONE, (worker,))
    return len(old)


def forget_results(transaction: Transaction, limit: int) -> int:
    """Results that were to be kept for a shorter time than their jobs."""
    passed = transaction.rows(PASSED, (transaction.now_us, limit))
    for (key,) in passed:
        transaction.execute(FORGET, (SUCCEEDED, RESULT_EXPIRED, key))
    return len(passed)


def delete_jobs(transaction: Transaction, keys: Sequence[JobKey]) -> None:
    """Rows with their attempts and evidence."""
    for statement in (DELETE_JOBS, DELETE_ATTEMPTS, DELETE_BLAMES):
        for _ in transaction.by_keys(statement, keys):
            raise AssertionError("a DELETE gives no rows")


def aged(transaction: Transaction, before_us: int, limit: int) -> list[bytes]:
    """Final jobs as records for an archive, those first that finished first."""
    keys = [row[0] for row in transaction.rows(OLD, (before_us, limit))]
    found = {row[0]: row for row in transaction.by_keys(AGED, keys)}
    return [encode_aged(_aged_job(transaction, found[key])) for key in keys]


def _aged_job(transaction: Transaction, row: Row) -> AgedJob:
    attempts = [attempt_of(attempt) for attempt in transaction.rows(ATTEMPTS, (row[0],))]
    return AgedJob(record_of(row, whole=True), attempts)


def import_aged(transaction: Transaction, records: Sequence[bytes]) -> list[JobKey]:
    """What is there already stays as it is."""
    jobs = [decode_aged(record) for record in records]
    present = set(states(transaction, [job.record.key for job in jobs]))
    for job in jobs:
        if job.record.key not in present:
            present.add(job.record.key)
            transaction.insert(INSERT_JOBS, [archived_row(job)])
            for attempt in archived_attempts(job):
                transaction.execute(ADD_ATTEMPT, attempt)
    return [job.record.key for job in jobs]


def delete_final(transaction: Transaction, keys: Sequence[JobKey]) -> int:
    """Delete those of the keys that have ended."""
    ended = [key for key, row in states(transaction, keys).items() if row.final]
    delete_jobs(transaction, ended)
    return len(ended)
