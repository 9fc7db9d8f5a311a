"""The databases of fault tests: an address for the processes, and what the test itself reads there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

SQLITE_AUDIT = """
CREATE TABLE IF NOT EXISTS test_audit (
    job_id BLOB, was INTEGER, became INTEGER, at REAL DEFAULT ((julianday('now') - 2440587.5) * 86400)
);
CREATE TRIGGER IF NOT EXISTS test_audit_final AFTER UPDATE OF status ON jm_job WHEN new.status IN (5, 7, 8)
BEGIN INSERT INTO test_audit (job_id, was, became) VALUES (new.id, old.status, new.status); END;
CREATE TRIGGER IF NOT EXISTS test_audit_insert AFTER INSERT ON jm_job WHEN new.status IN (5, 7, 8)
BEGIN INSERT INTO test_audit (job_id, was, became) VALUES (new.id, NULL, new.status); END;
CREATE TRIGGER IF NOT EXISTS test_audit_left AFTER UPDATE OF status ON jm_job
WHEN old.status IN (5, 7, 8) AND new.status NOT IN (5, 7, 8)
BEGIN INSERT INTO test_audit (job_id, was, became) VALUES (new.id, old.status, new.status); END;
"""
POSTGRES_AUDIT = """
CREATE TABLE test_audit (
    job_id uuid, was int, became int, at double precision DEFAULT extract(epoch FROM clock_timestamp())
);
CREATE FUNCTION test_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE was int;
BEGIN
    IF TG_OP = 'UPDATE' THEN was := old.status; END IF;
    IF new.status IN (5, 7, 8) OR was IN (5, 7, 8) THEN
        INSERT INTO test_audit VALUES (new.id, was, new.status);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER test_audit AFTER INSERT OR UPDATE OF status ON jm_job FOR EACH ROW EXECUTE FUNCTION test_audit();
"""


class Place(Protocol):
    """A database that worker processes and the test share."""

    @property
    def url(self) -> str:
        """Its address."""
        ...

    def is_made(self) -> bool:
        """Whether it has JobMaster's tables."""
        ...

    def watch(self) -> None:
        """From now on, note every step into, out of, or within the final statuses."""
        ...

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement of the test's own answers; ids of jobs are texts."""
        ...

    def close(self) -> None:
        """The test has ended."""
        ...


class SqlitePlace:
    """A file. The first that a run makes is made by a producer, the others are copies of it."""

    _first: bytes | None = None

    def __init__(self, folder: Path) -> None:
        self._path = folder / "faults.db"
        self.url = f"sqlite:///{self._path}"

    def is_made(self) -> bool:
        if not self._path.exists() and SqlitePlace._first is not None:
            self._path.touch(0o600)
            self._path.write_bytes(SqlitePlace._first)
        return self._path.exists()

    def watch(self) -> None:
        if SqlitePlace._first is None:
            with self._connection() as connection:
                SqlitePlace._first = connection.serialize()
        with self._connection() as connection:
            connection.executescript(SQLITE_AUDIT)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            found = connection.execute(statement).fetchall()
        return [tuple(_text(value) if isinstance(value, bytes) else value for value in row) for row in found]

    def close(self) -> None:
        pass

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=30)
        try:
            yield connection
            connection.commit()
        finally:
            connection.close()


class PostgresPlace:
    """A database on a server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: psycopg.Connection | None = None

    def is_made(self) -> bool:
        return bool(self._connected().execute("SELECT to_regclass('jm_schema') IS NOT NULL").fetchall()[0][0])

    def watch(self) -> None:
        self._connected().execute(POSTGRES_AUDIT)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        try:
            found = self._connected().execute(statement).fetchall()  # type: ignore[arg-type]
        except psycopg.OperationalError:  # the server was away, or has ended this connection
            self.close()
            found = self._connected().execute(statement).fetchall()  # type: ignore[arg-type]
        return [(str(job), *rest) for job, *rest in found]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        return self._connection


def _text(key: bytes) -> str:
    text = key.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
