"""What a server says of itself, for `jobmaster doctor`: on one connection of its own, which changes nothing."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from jobmaster.model.examination import Connections, Examination, OpenTransaction, WaitingJob
from jobmaster.model.ids import JobKey, key_text
from jobmaster.stores.sql.postgresql.connection import Place
from jobmaster.stores.sql.postgresql.durability import SETTINGS, survives
from jobmaster.stores.sql.postgresql.faults import DRIVER, undone
from jobmaster.stores.sql.postgresql.numbering import SEQUENCE_BITS
from jobmaster.stores.sql.postgresql.provisioning import FRESH
from jobmaster.stores.sql.postgresql.transaction import CLOCK

if TYPE_CHECKING:
    from jobmaster.settings.dsn import Dsn

MOST_SHOWN: Final = 20
INDEXES_ONLY: Final = ("jit = off", "enable_seqscan = off", "enable_bitmapscan = off")
DAY_US: Final = 86_400_000_000

NOW = f"SELECT {CLOCK}"

SERVER = """
SELECT NOT pg_is_in_recovery(), current_setting('autovacuum'),
    current_setting('max_connections')::int
    - CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN 0
        ELSE current_setting('superuser_reserved_connections')::int
            + COALESCE(current_setting('reserved_connections', true), '0')::int END,
    (SELECT COALESCE(sum(numbackends), 0)::int FROM pg_stat_database),
    pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
    COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false)
"""

# Sequences are among them: a producer draws numbers of messages.
TABLES = """
SELECT c.relname, c.relkind::text,
    CASE WHEN c.relkind = 'S' THEN CASE WHEN has_sequence_privilege(c.oid, 'USAGE') THEN '' ELSE 'USAGE' END
    ELSE concat_ws(', ', VARIADIC ARRAY(
        SELECT word FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) word
        WHERE NOT has_table_privilege(c.oid, word))) END
FROM pg_class c
WHERE c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition AND c.relname LIKE 'jm\\_%' AND pg_table_is_visible(c.oid)
ORDER BY 1
"""

TRANSACTIONS = f"""
SELECT pid, extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::float8 AS seconds, COALESCE(state, ''),
    COALESCE(usename::text, ''), application_name
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    AND backend_type = 'client backend'
UNION ALL
SELECT 0, extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::float8, 'prepared', owner::text, gid
FROM pg_prepared_xacts WHERE database = current_database()
ORDER BY 2 DESC LIMIT {MOST_SHOWN}
"""

# From index entry to index entry, however much waits: the first messages of each bucket, which are its oldest (those of
# running jobs stay there until they end), and the first held jobs of each lane and priority.
WAITING = f"""
WITH RECURSIVE filled (id) AS (
    SELECT (SELECT seq >> {SEQUENCE_BITS} FROM jm_message ORDER BY seq LIMIT 1)
    UNION ALL
    SELECT (SELECT seq >> {SEQUENCE_BITS} FROM jm_message WHERE seq >= (filled.id + 1) << {SEQUENCE_BITS}
        ORDER BY seq LIMIT 1)
    FROM filled WHERE filled.id IS NOT NULL),
held (lane, priority) AS (
    (SELECT lane, priority FROM jm_job WHERE status = 2 AND reason <> 'unroutable' ORDER BY lane, priority LIMIT 1)
    UNION ALL
    SELECT later.lane, later.priority FROM held CROSS JOIN LATERAL (
        SELECT lane, priority FROM jm_job
        WHERE status = 2 AND reason <> 'unroutable' AND (lane, priority) > (held.lane, held.priority)
        ORDER BY lane, priority LIMIT 1) later)
SELECT id, custom_id, due_us FROM (
    SELECT m.job_id AS id, m.custom_id, m.due_us FROM filled b CROSS JOIN LATERAL (
        SELECT job_id, custom_id, due_us FROM jm_message
        WHERE seq > b.id << {SEQUENCE_BITS} AND seq < (b.id + 1) << {SEQUENCE_BITS} AND later = 0
        ORDER BY seq LIMIT 50) m
    WHERE NOT EXISTS (SELECT 1 FROM jm_job j WHERE j.id = m.job_id AND j.status = 4)
    UNION ALL
    SELECT id, custom_id, due_us FROM jm_job WHERE status IN (3, 4, 6) AND status <> 4
    UNION ALL
    SELECT first.* FROM held CROSS JOIN LATERAL (
        SELECT id, custom_id, due_us FROM jm_job
        WHERE status = 2 AND reason <> 'unroutable' AND lane = held.lane AND priority = held.priority AND due_us <= $1
        ORDER BY due_us LIMIT {MOST_SHOWN}) first
) waiting WHERE due_us <= $1 ORDER BY due_us LIMIT {MOST_SHOWN}
"""

QUARANTINED = """
SELECT task, count(*)::int FROM jm_job
WHERE finished_us IS NOT NULL AND finished_us > $1 AND status = 7 AND reason = 'quarantined'
GROUP BY task ORDER BY task
"""


async def examine(dsn: Dsn, *, timeout: float) -> Examination:
    """Ask the server.

    Args:
        dsn: where it is.
        timeout: seconds for the connection, and for each question.

    Raises:
        ConfigurationError: address, user or database is wrong, or the server is too old.
        StoreUnavailable: it does not answer, or has no connection left.
    """
    milliseconds = round(timeout * 1_000)
    connection = await Place(dsn, timeout=timeout).connect((f"statement_timeout = {milliseconds}", *INDEXES_ONLY))
    try:
        return await _examine(connection, timeout)
    except DRIVER as error:
        raise undone(error, dsn) from error
    finally:
        connection.terminate()


async def _examine(connection: asyncpg.Connection[Any], timeout: float) -> Examination:
    async def rows(question: str, *values: object) -> list[Any]:
        return list(await connection.fetch(question, *values, timeout=timeout))

    now_us, ahead = await _clock(connection, timeout)
    ((fsync, commit, pages, version),) = await rows(SETTINGS)
    ((takes_writes, autovacuum, usable, used, sees_all, may_make),) = await rows(SERVER)
    found = await rows(TABLES)
    missing = _missing([name for name, _, _ in found])
    lacking = tuple(f"{name}: {lacks}" for name, _, lacks in found if lacks)
    can_ask = bool(found) and not missing and not lacking
    switched = {"fsync": fsync, "full_page_writes": pages, "synchronous_commit": commit, "autovacuum": autovacuum}
    return Examination(
        server=f"PostgreSQL {version}",
        is_empty=not found,
        may_make_tables=may_make,
        missing_tables=missing,
        missing_rights=lacking,
        ahead=ahead,
        survives=survives(fsync=fsync, commit=commit, pages=pages),
        evidence=f"fsync = {fsync}, synchronous_commit = {commit}, full_page_writes = {pages}",
        unsafe=tuple(f"{name} = off" for name, value in switched.items() if value == "off"),
        takes_writes=takes_writes,
        connections=Connections(used=used, usable=usable),
        transactions=tuple(OpenTransaction(*row) for row in await rows(TRANSACTIONS)),
        sees_all=sees_all,
        # Of tables that may be large: they get less time, so that all the rest is told in any case.
        waiting=await _waiting(connection, now_us, timeout / 4) if can_ask else None,
        quarantined=await _quarantined(connection, now_us, timeout / 4) if can_ask else None,
    )


async def _clock(connection: asyncpg.Connection[Any], seconds: float) -> tuple[int, float]:
    """The server's time, and how far it is ahead: the best of three, as the way there and back is in it."""
    best: tuple[int, int, float] | None = None
    for _ in range(3):
        before = time.time_ns()
        now_us = int(await connection.fetchval(NOW, timeout=seconds))
        after = time.time_ns()
        if best is None or after - before < best[0]:
            best = (after - before, now_us, now_us / 1e6 - (before + after) / 2e9)
    assert best is not None  # noqa: S101 - three times round
    return best[1], best[2]


def _missing(found: list[str]) -> tuple[str, ...]:
    """Tables that are not there; none where there is not even one, which is a database that is not made yet."""
    wanted = re.findall(r"CREATE TABLE (\w+) \(", FRESH.read_text(encoding="utf-8"))
    return tuple(sorted(set(wanted) - set(found))) if found else ()


async def _waiting(connection: asyncpg.Connection[Any], now_us: int, seconds: float) -> tuple[WaitingJob, ...] | None:
    try:
        rows = await connection.fetch(WAITING, now_us, timeout=seconds)
    except (TimeoutError, asyncpg.QueryCanceledError):
        return None
    return tuple(WaitingJob(custom or key_text(JobKey(key)), (now_us - due_us) / 1e6) for key, custom, due_us in rows)


async def _quarantined(connection: asyncpg.Connection[Any], now_us: int, seconds: float) -> dict[str, int] | None:
    try:
        return dict(await connection.fetch(QUARANTINED, now_us - DAY_US, timeout=seconds))
    except (TimeoutError, asyncpg.QueryCanceledError):
        return None
