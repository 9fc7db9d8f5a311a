"""The schema of a database: there, made on the spot in an empty one, or changed by a migrator process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from jobmaster.errors import SchemaError
from jobmaster.stores.sql.version import READ_VERSION, SCHEMA_VERSION

if TYPE_CHECKING:
    from jobmaster.settings.dsn import Dsn

FRESH = Path(__file__).with_name("fresh.sql")
"""What all migrations together make of an empty database; a test compares the two."""

ALONE = "SELECT pg_advisory_xact_lock(4242260001)"
"""The migrator takes the same lock: of two that start together the second finds the tables."""

PATIENTLY = "SET LOCAL statement_timeout = 0"
"""Another process may be at work on the schema, which takes as long as it takes."""


async def provide(connection: asyncpg.Connection[Any], dsn: Dsn, *, allowed: bool) -> None:
    """Make sure that the database has the schema of this code.

    Raises:
        SchemaError: it has not, and may not be changed (`allowed` False), or it is newer than this code.
    """
    found = await stored_version(connection)
    if found is None and allowed:
        found = await _make_fresh(connection)
    if found == SCHEMA_VERSION:
        return
    if found is not None and found > SCHEMA_VERSION:
        raise SchemaError(
            f"{dsn} has schema {found}, made by a newer JobMaster; this one knows {SCHEMA_VERSION}. "
            "Update this installation: pip install -U jobmaster"
        )
    if not allowed:
        has = f"has schema {found}, but this JobMaster needs {SCHEMA_VERSION}" if found else "has no JobMaster tables"
        raise SchemaError(f"{dsn} {has}, and auto_provision is off, so it is left as it is. Run: jobmaster db upgrade")
    from jobmaster.stores.sql.migrate import in_own_process

    await asyncio.to_thread(in_own_process, dsn.url)
    if await stored_version(connection) != SCHEMA_VERSION:
        raise SchemaError(
            f"The migration of {dsn} ended without an error, but its schema is not {SCHEMA_VERSION}. "
            "Run: jobmaster db status"
        )


async def stored_version(connection: asyncpg.Connection[Any]) -> str | None:
    """The version that the database says: None without our tables, "" where a migration never got through."""
    try:
        row = await connection.fetchrow(READ_VERSION)
    except asyncpg.UndefinedTableError:
        return None
    return "" if row is None else str(row[0])


async def _make_fresh(connection: asyncpg.Connection[Any]) -> str:
    async with connection.transaction():
        await connection.execute(PATIENTLY)
        await connection.execute(ALONE)
        found = await stored_version_inside(connection)
        if found is None:
            await connection.execute(FRESH.read_text(encoding="utf-8"))
    return found or SCHEMA_VERSION


async def stored_version_inside(connection: asyncpg.Connection[Any]) -> str | None:
    """As `stored_version`, without an error that would end the transaction."""
    if await connection.fetchval("SELECT to_regclass('jm_schema')") is None:
        return None
    return await stored_version(connection)
