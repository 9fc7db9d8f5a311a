"""History by the week: partitions of jm_job that are made ahead of time, and dropped whole when all in them is old.

A key made here begins with its time (UUID version 7), so a range of keys is a range of time. Keys of other kinds, and
those of weeks that began before anybody made their partition, lie in the default partition and go row by row.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from jobmaster.errors import StoreUnavailable

if TYPE_CHECKING:
    from jobmaster.stores.sql.postgresql.transaction import Transaction

logger = logging.getLogger("jobmaster.store")

WEEK_MS = 7 * 86_400_000
WORTH_A_WEEK_US = 4 * WEEK_MS * 1_000
"""With a retention of at least so long, jobs stay up to a week longer, and are dropped with their week."""
AHEAD = 3
"""So many weeks are there in advance, the present one counted."""
ATTEMPTS_AT_ONCE = 10_000

ONE_AT_A_TIME = "SELECT pg_try_advisory_xact_lock(4242260002)"
PATIENCE = "SET LOCAL lock_timeout = '50ms'"
"""Who waits for these locks stops everybody behind it, so they are hardly waited for: the next minute tries again."""

PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'jm_job'::regclass AND c.relname ~ '^jm_job_w[0-9]+$' ORDER BY c.relname
"""
IN_DEFAULT = "SELECT EXISTS (SELECT FROM jm_job_default WHERE id >= $1 AND id < $2)"
MAKE = """
CREATE TABLE {name} PARTITION OF jm_job FOR VALUES FROM ('{low}') TO ('{high}')
    WITH (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 500000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000)
"""
# Each of the first three looks into a partial index that is nearly empty, the last into an index of a few pages.
NEEDED = """
SELECT EXISTS (SELECT FROM {name} WHERE status = 2 AND reason <> 'unroutable')
    OR EXISTS (SELECT FROM {name} WHERE status = 2 AND reason = 'unroutable')
    OR EXISTS (SELECT FROM {name} WHERE status IN (3, 4, 6))
    OR EXISTS (SELECT FROM {name} WHERE finished_us IS NOT NULL AND finished_us >= $1)
"""
FORGET_ATTEMPTS = """
DELETE FROM jm_attempt WHERE (job_id, attempt) IN (
    SELECT job_id, attempt FROM jm_attempt WHERE job_id >= $1 AND job_id < $2 LIMIT $3
)
"""
# No more than this: to count all jobs of a week can take longer than a statement may.
COUNT = "SELECT count(*) FROM (SELECT FROM {name} LIMIT 100000) AS counted"
STOP_WRITES = "LOCK TABLE jm_job IN ACCESS EXCLUSIVE MODE"


class Week(NamedTuple):
    """One partition. `number` counts the weeks since 1970."""

    number: int

    @property
    def name(self) -> str:
        return f"jm_job_w{self.number:05d}"

    @property
    def low(self) -> bytes:
        """The first key of the week."""
        return _key(self.number * WEEK_MS)

    @property
    def high(self) -> bytes:
        """The first key of the next week."""
        return _key((self.number + 1) * WEEK_MS)

    @property
    def end_us(self) -> int:
        return (self.number + 1) * WEEK_MS * 1_000


def _key(milliseconds: int) -> bytes:
    return milliseconds.to_bytes(6, "big") + bytes(10)


def _week_of(now_us: int) -> int:
    return now_us // 1_000 // WEEK_MS


async def weeks(transaction: Transaction) -> list[Week]:
    """The partitions that are there, oldest first."""
    names = [row[0] for row in await transaction.rows(PARTITIONS)]
    return [Week(int(name.removeprefix("jm_job_w"))) for name in names]


async def make_ahead(transaction: Transaction) -> int:
    """Partitions of this week and the next ones, unless keys of that week lie in the default partition already."""
    first = _week_of(await transaction.tick())
    there = set(await weeks(transaction))
    missing = [week for number in range(first, first + AHEAD) if (week := Week(number)) not in there]
    if not missing or not await transaction.value(ONE_AT_A_TIME):
        return 0
    await transaction.connection.execute(PATIENCE)
    made = 0
    for week in missing:
        if not await transaction.value(IN_DEFAULT, week.low, week.high):
            statement = MAKE.format(name=week.name, low=_text(week.low), high=_text(week.high))
            await transaction.connection.execute(statement)
            made += 1
    return made


async def tables_to_purge(transaction: Transaction, before_us: int) -> list[str]:
    """The tables whose old jobs go row by row: those in weeks that will be dropped soon stay until then.

    A short retention goes by rows alone, so that it is kept to the minute.
    """
    if transaction.now_us - before_us < WORTH_A_WEEK_US:
        return ["jm_job"]
    late = [week.name for week in await weeks(transaction) if week.end_us <= before_us - WEEK_MS * 1_000]
    return ["jm_job_default", *late]


async def drop_oldest(transaction: Transaction, before_us: int) -> int:
    """Drop one week in which every job had ended before `before_us`; how many jobs it had, counted up to 100,000.

    0: there is none.
    """
    for week in await weeks(transaction):
        if week.end_us > before_us:
            break
        if await transaction.value(NEEDED.format(name=week.name), before_us):
            continue
        if not await transaction.value(ONE_AT_A_TIME):
            return 0
        if await transaction.changed(FORGET_ATTEMPTS, week.low, week.high, ATTEMPTS_AT_ONCE) == ATTEMPTS_AT_ONCE:
            return 0  # the rest of them with the next calls, before their jobs go
        return await _drop(transaction, week, before_us)
    return 0


async def _drop(transaction: Transaction, week: Week, before_us: int) -> int:
    count: int = await transaction.value(COUNT.format(name=week.name))
    await transaction.connection.execute(PATIENCE)
    await transaction.connection.execute(STOP_WRITES)
    # Looked at once more, now that nobody can take a job of it up again.
    if await transaction.value(NEEDED.format(name=week.name), before_us):
        return 0
    await transaction.connection.execute(f"DROP TABLE {week.name}")
    logger.info("week_dropped partition=%s jobs=%d", week.name, count)
    return count


def _text(key: bytes) -> str:
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def may_wait(error: BaseException) -> bool:
    """Whether the work on partitions can be left for later: a lock that was not to be had, a right that is missing."""
    cause = error.__cause__ if isinstance(error, StoreUnavailable) else error
    return isinstance(cause, (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError))
