"""The schema of a database file: there, made on the spot for a new file, or changed by a migrator process."""

from __future__ import annotations

import logging
import os
import sqlite3
from typing import TYPE_CHECKING

from jobmaster.errors import SchemaError
from jobmaster.stores.sql import version
from jobmaster.stores.sql.compatibility import Stored, fit_of, is_enough, require_enough
from jobmaster.stores.sql.sqlite.connection import with_patience
from jobmaster.stores.sql.version import READ_BARE_VERSION, READ_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("jobmaster.store")

FRESH = os.path.join(os.path.dirname(__file__), "fresh.sql")
"""What all migrations together make of an empty file; a test compares the two."""


def provide(connection: sqlite3.Connection, path: str, *, allowed: bool, patience: float) -> None:
    """Make sure that this code can work on the file's schema.

    Raises:
        SchemaError: it cannot, and the schema may not be changed (`allowed` False), or has lost what this code needs.
    """
    where = f"The database {path}"
    found = stored_version(connection)
    if found.version is None and allowed:
        found = _make_fresh(connection, patience)
    if is_enough(found, where, allowed=allowed):
        return
    from jobmaster.stores.sql.migrate import in_own_process

    try:
        in_own_process(f"sqlite:///{path}")
    except SchemaError as error:
        if not fit_of(found).works:
            raise
        logger.warning("schema_behind found=%s expected=%s error=%s", found.version, version.SCHEMA_VERSION, error)
    require_enough(stored_version(connection), where)


def stored_version(connection: sqlite3.Connection) -> Stored:
    """The version that the file says: None for a file without our tables, "" where a migration never got through."""
    try:
        row = connection.execute(READ_VERSION).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return Stored(None)
        if "no such column" in str(error):
            row = connection.execute(READ_BARE_VERSION).fetchone()
            return Stored("" if row is None else str(row[0]))
        raise
    return Stored("") if row is None else Stored(str(row[0]), str(row[1]))


def _make_fresh(connection: sqlite3.Connection, patience: float) -> Stored:
    """All tables in one transaction; of two processes that start together the second finds them."""
    with_patience(lambda: connection.execute("BEGIN IMMEDIATE"), patience)
    try:
        found = stored_version(connection)
        if found.version is None:
            for statement in fresh_statements():
                connection.execute(statement)
            found = stored_version(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return found


def fresh_statements() -> Iterator[str]:
    """The statements that make an empty file a database of this version."""
    with open(FRESH, encoding="utf-8") as file:
        text = file.read()
    return (statement for part in text.split(";\n") if (statement := part.strip()))
