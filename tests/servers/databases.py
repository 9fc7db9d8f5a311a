"""Databases with JobMaster's schema and nothing in them, lent to one test after another.

A new database takes some 70 ms, emptying a used one 5 ms. So a database that comes back is emptied and lent again,
unless the test changed more than rows: then it is replaced. What the schema itself holds (its first rows, the state of
its sequences) is remembered from the moment when the database was made.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from functools import cache

import psycopg
from psycopg import sql

from tests.servers.obtaining import PostgresPlace, obtain_postgres

# What a test changes without changing rows: tables, partitions, columns, indexes, settings, triggers, functions.
# VACUUM and ANALYZE change these catalogs in place, so `xmin` stays.
SHAPE = """
SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
    SELECT format('r %s %s', oid, xmin) FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT format('a %s %s %s', attrelid, attnum, a.xmin) FROM pg_attribute a
        JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT format('t %s %s', oid, xmin) FROM pg_trigger
    UNION ALL SELECT format('f %s %s', oid, xmin) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT format('d %s %s', setdatabase, xmin) FROM pg_db_role_setting
) AS shapes (line)
"""

REMEMBER = """
CREATE SCHEMA first;
CREATE TABLE first.sequences AS
    SELECT c.oid AS sequence, COALESCE(s.last_value, s.start_value) AS value, s.last_value IS NOT NULL AS called
    FROM pg_sequences s JOIN pg_class c ON c.relname = s.sequencename AND c.relnamespace = 'public'::regnamespace
    WHERE s.schemaname = 'public';
DO $$
DECLARE name text; filled boolean;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM ONLY public.%I)', name) INTO filled;
        IF filled THEN EXECUTE format('CREATE TABLE first.%I AS TABLE ONLY public.%I', name, name); END IF;
    END LOOP;
END $$;
"""

# One transaction, in which triggers and foreign keys sleep where we may tell them to.
EMPTY = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
SELECT set_config('session_replication_role', 'replica', true) FROM pg_roles WHERE rolname = current_user AND rolsuper;
DO $$
DECLARE name text; filled boolean;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM ONLY public.%I)', name) INTO filled;
        IF filled THEN EXECUTE format('DELETE FROM ONLY public.%I', name); END IF;
    END LOOP;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'first' AND tablename <> 'sequences' LOOP
        EXECUTE format('INSERT INTO public.%I SELECT * FROM first.%I', name, name);
    END LOOP;
END $$;
SELECT setval(sequence, value, called) FROM first.sequences;
"""


class Databases:
    """Lends the addresses of databases on one server."""

    def __init__(self, place: PostgresPlace) -> None:
        self.place = place
        self._template = ""
        self._numbers = itertools.count(1)
        self._free: list[str] = []
        self._shapes: dict[str, str] = {}

    def borrow(self, *, used: bool = True) -> str:
        """A database with the schema and without a job; its address. Give it back.

        Args:
            used: it may be one that an earlier test has used and that was emptied. A test that reads plans or sizes
                of tables wants a new one.
        """
        return self._free.pop() if used and self._free else self._new()

    def give_back(self, dsn: str) -> None:
        """Take a database back: whoever is still connected to it is thrown out."""
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            unchanged = _shape(connection) == self._shapes[dsn]
            if unchanged:
                with connection.transaction():
                    connection.execute(EMPTY)
        if unchanged:
            self._free.append(dsn)
        else:
            self._drop(dsn)

    def blank(self) -> str:
        """A database without any table; give it back with `remove`."""
        name = self._name()
        self._administrate("CREATE DATABASE {} TEMPLATE template0", name)
        return self.place.dsn(name)

    def remove(self, dsn: str) -> None:
        """Drop a database of `blank`."""
        self._administrate("DROP DATABASE IF EXISTS {} WITH (FORCE)", dsn.rpartition("/")[2].partition("?")[0])

    def close(self) -> None:
        """Drop every database that was made here and came back, as a server that is not ours would keep them."""
        for dsn in [*self._free, *([self.place.dsn(self._template)] if self._template else [])]:
            self.remove(dsn)
        self._free.clear()
        self._template = ""

    @contextlib.contextmanager
    def lent(self, *, used: bool = True) -> Iterator[str]:
        """Borrow for the length of a block."""
        dsn = self.borrow(used=used)
        try:
            yield dsn
        finally:
            self.give_back(dsn)

    def _new(self) -> str:
        if not self._template:
            self._template = self._made_template()
        name = self._name()
        # By copying files: with fsync off that is twice as fast as the server's own choice.
        self._administrate("CREATE DATABASE {} TEMPLATE {}" + self._strategy, name, self._template)
        dsn = self.place.dsn(name)
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            self._shapes[dsn] = _shape(connection)
        return dsn

    def _made_template(self) -> str:
        from jobmaster.stores.sql.provision import upgrade

        dsn = self.blank()
        upgrade(dsn)
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            connection.execute(REMEMBER)
        return dsn.rpartition("/")[2].partition("?")[0]

    def _drop(self, dsn: str) -> None:
        self._shapes.pop(dsn, None)
        self.remove(dsn)

    @property
    def _strategy(self) -> str:
        return " STRATEGY FILE_COPY" if int(self.place.version.split(".")[0]) >= 15 else ""

    def _name(self) -> str:
        return f"jobmaster_test_{os.getpid()}_{next(self._numbers)}"

    def _administrate(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.place.address, autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]


@cache
def databases() -> Databases:
    """Those of the PostgreSQL of this process.

    Raises:
        NoPostgresError: there is none.
    """
    return Databases(obtain_postgres())


def _shape(connection: psycopg.Connection) -> str:
    row = connection.execute(SHAPE).fetchone()
    assert row is not None
    return str(row[0])
