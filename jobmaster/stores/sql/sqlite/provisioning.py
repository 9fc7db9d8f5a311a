"""The schema of a database file: there, made on the spot for a new file, or changed by a migrator process."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from jobmaster.errors import SchemaError
from jobmaster.stores.sql.sqlite.connection import with_patience
from jobmaster.stores.sql.version import READ_VERSION, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

FRESH = os.path.join(os.path.dirname(__file__), "fresh.sql")
"""What all migrations together make of an empty file; a test compares the two."""


def provide(connection: sqlite3.Connection, path: str, *, allowed: bool, patience: float) -> None:
    """Make sure that the file has the schema of this code.

    Raises:
        SchemaError: it has not, and may not be changed (`allowed` False), or it is newer than this code.
    """
    found = stored_version(connection)
    if found is None and allowed:
        found = _make_fresh(connection, patience)
    if found == SCHEMA_VERSION:
        return
    require_older(found, path)
    if not allowed:
        raise SchemaError(_too_old(found, path))
    from jobmaster.stores.sql.migrate import in_own_process

    in_own_process(f"sqlite:///{path}")
    if stored_version(connection) != SCHEMA_VERSION:
        raise SchemaError(
            f"The migration of {path} ended without an error, but its schema is not {SCHEMA_VERSION}. "
            "Run: jobmaster db status"
        )


def stored_version(connection: sqlite3.Connection) -> str | None:
    """The version that the file says: None for a file without our tables, "" where a migration never got through."""
    try:
        row = connection.execute(READ_VERSION).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return "" if row is None else str(row[0])


def require_older(found: str | None, path: str) -> None:
    """Raise SchemaError for a schema that this code does not know."""
    if found is not None and found > SCHEMA_VERSION:
        raise SchemaError(
            f"The database {path} has schema {found}, made by a newer JobMaster; this one knows {SCHEMA_VERSION}. "
            "Update this installation: pip install -U jobmaster"
        )


def _too_old(found: str | None, path: str) -> str:
    has = f"has schema {found}, but this JobMaster needs {SCHEMA_VERSION}" if found else "has no JobMaster tables"
    return f"The database {path} {has}, and auto_provision is off, so it is left as it is. Run: jobmaster db upgrade"


def _make_fresh(connection: sqlite3.Connection, patience: float) -> str:
    """All tables in one transaction; of two processes that start together the second finds them."""
    with_patience(lambda: connection.execute("BEGIN IMMEDIATE"), patience)
    try:
        found = stored_version(connection)
        if found is None:
            for statement in fresh_statements():
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return found or SCHEMA_VERSION


def fresh_statements() -> Iterator[str]:
    """The statements that make an empty file a database of this version."""
    with open(FRESH, encoding="utf-8") as file:
        text = file.read()
    return (statement for part in text.split(";\n") if (statement := part.strip()))
