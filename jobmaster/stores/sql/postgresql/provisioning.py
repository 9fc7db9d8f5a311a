"""The schema of a database: there, made on the spot in an empty one, or changed by a migrator process."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from jobmaster.errors import SchemaError
from jobmaster.stores.sql import version
from jobmaster.stores.sql.compatibility import Stored, fit_of, is_enough, require_enough
from jobmaster.stores.sql.version import READ_BARE_VERSION, READ_VERSION

if TYPE_CHECKING:
    from jobmaster.settings.dsn import Dsn

logger = logging.getLogger("jobmaster.store")

FRESH = Path(__file__).with_name("fresh.sql")
"""What all migrations together make of an empty database; a test compares the two."""

ALONE = "SELECT pg_try_advisory_xact_lock(4242260001)"
"""The migrator takes the same lock: of two that start together the second finds the tables.

It does not wait for the lock: a migrator that builds an index waits for all statements under way.
"""
LOOK_AGAIN = 0.1

PATIENTLY = "SET LOCAL statement_timeout = 0"
"""Another process may be at work on the schema, which takes as long as it takes."""


async def provide(connection: asyncpg.Connection[Any], dsn: Dsn, *, allowed: bool) -> None:
    """Make sure that this code can work on the database's schema.

    Raises:
        SchemaError: it cannot, and the schema may not be changed (`allowed` False), or has lost what this code needs.
    """
    found = await stored_version(connection)
    if found.version is None and allowed:
        found = await _make_fresh(connection)
    if is_enough(found, str(dsn), allowed=allowed):
        return
    from jobmaster.stores.sql.migrate import in_own_process

    try:
        await asyncio.to_thread(in_own_process, dsn.url)
    except SchemaError as error:
        if not fit_of(found).works:
            raise
        logger.warning("schema_behind found=%s expected=%s error=%s", found.version, version.SCHEMA_VERSION, error)
    require_enough(await stored_version(connection), str(dsn))


async def stored_version(connection: asyncpg.Connection[Any]) -> Stored:
    """The version that the database says: None without our tables, "" where a migration never got through."""
    try:
        row = await connection.fetchrow(READ_VERSION)
    except asyncpg.UndefinedTableError:
        return Stored(None)
    except asyncpg.UndefinedColumnError:
        bare = await connection.fetchval(READ_BARE_VERSION)
        return Stored("" if bare is None else str(bare))
    return Stored("") if row is None else Stored(str(row[0]), str(row[1]))


async def _make_fresh(connection: asyncpg.Connection[Any]) -> Stored:
    while True:
        async with connection.transaction():
            await connection.execute(PATIENTLY)
            is_alone = await connection.fetchval(ALONE)
            is_there = await connection.fetchval("SELECT to_regclass('jm_schema')") is not None
            if is_alone and not is_there:
                await connection.execute(FRESH.read_text(encoding="utf-8"))
            if is_alone or is_there:
                return await stored_version(connection)
        await asyncio.sleep(LOOK_AGAIN)
