"""Databases with JobMaster's schema and nothing in them, lent to one test after another.

A new database takes some 70 ms, emptying a used one 5. So a database that comes back is emptied and lent again,
unless the test changed more than rows: then it is replaced. What the schema itself holds (its first rows, the state of
its sequences) is remembered from the moment when the database was made.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import psycopg
from psycopg import sql

from tests.servers.obtaining import PostgresPlace, obtain_postgres

# What a test changes without changing rows: tables, partitions, columns, indexes, settings, triggers, functions. VACUUM
# and ANALYZE change these catalogs in place, so `xmin` stays. 16384: the first number that is not the system's own.
SHAPE = """
SELECT concat_ws(' ',
    (SELECT sum(hashtextextended(xmin::text, oid::bigint)) FROM pg_class WHERE oid >= 16384),
    (SELECT sum(hashtextextended(xmin::text, attrelid::bigint * 2000 + attnum)) FROM pg_attribute
        WHERE attrelid >= 16384),
    (SELECT sum(hashtextextended(xmin::text, oid::bigint)) FROM pg_trigger),
    (SELECT sum(hashtextextended(xmin::text, oid::bigint)) FROM pg_proc WHERE oid >= 16384),
    (SELECT sum(hashtextextended(xmin::text, setdatabase::bigint)) FROM pg_db_role_setting))
"""

REMEMBER = """
CREATE SCHEMA first;
DO $$
DECLARE name text; place record; filled boolean; empty text := ''; fill text := '';
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM ONLY public.%I)', name) INTO filled;
        empty := empty || format('DELETE FROM ONLY public.%I; ', name);
        IF filled THEN
            EXECUTE format('CREATE TABLE first.%I AS TABLE ONLY public.%I', name, name);
            fill := fill || format('INSERT INTO public.%I SELECT * FROM first.%I; ', name, name);
        END IF;
    END LOOP;
    FOR place IN SELECT * FROM pg_sequences WHERE schemaname = 'public' LOOP
        fill := fill || format('PERFORM setval(%L, %s, %L); ', 'public.' || quote_ident(place.sequencename),
            COALESCE(place.last_value, place.start_value), place.last_value IS NOT NULL);
    END LOOP;
    EXECUTE format('CREATE FUNCTION first.empty() RETURNS void LANGUAGE plpgsql AS %L',
        'BEGIN ' || empty || fill || 'END');
END $$;
"""

EMPTY = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
SELECT first.empty();
"""

# Triggers and foreign keys sleep in our session, where we may tell them to.
PREPARE_SESSION = """
SELECT set_config('session_replication_role', 'replica', false) FROM pg_roles WHERE rolname = current_user AND rolsuper
"""


_numbers = itertools.count(1)


class Databases:
    """Lends the addresses of databases on one server."""

    def __init__(self, place: PostgresPlace) -> None:
        self.place = place
        self._template = ""
        self._free: dict[str, list[str]] = defaultdict(list)
        self._more: dict[str, str] = {}
        self._shapes: dict[str, str] = {}
        self._sessions: dict[str, psycopg.Connection] = {}

    def borrow(self, *, used: bool = True, more: str = "") -> str:
        """A database with the schema and without a job; its address. Give it back.

        Args:
            used: it may be one that an earlier test has used and that was emptied. A test that reads plans or sizes
                of tables wants a new one.
            more: statements that have changed its schema; tests that say the same use it one after the other.
        """
        free = self._free[more]
        return free.pop() if used and free else self._new(more)

    def give_back(self, dsn: str) -> None:
        """Take a database back: whoever is still connected to it is thrown out."""
        session = self._session(dsn)
        try:
            unchanged = _shape(session) == self._shapes[dsn]
            if unchanged:
                with session.transaction():
                    session.execute(EMPTY)
        except psycopg.OperationalError:  # a test of faults has ended our session, too
            unchanged = False
        if unchanged:
            self._free[self._more[dsn]].append(dsn)
        else:
            self._drop(dsn)

    def blank(self) -> str:
        """A database without any table; give it back with `remove`."""
        name = self._name()
        self._administrate("CREATE DATABASE {} TEMPLATE template0", name)
        return self.place.dsn(name)

    def remove(self, dsn: str) -> None:
        """Drop a database of `blank`."""
        if dsn in self._sessions:
            self._sessions.pop(dsn).close()
        self._administrate("DROP DATABASE IF EXISTS {} WITH (FORCE)", dsn.rpartition("/")[2].partition("?")[0])

    def close(self) -> None:
        """Drop every database that was made for lending, where the server would keep them."""
        made = [*self._shapes, *([self.place.dsn(self._template)] if self._template else [])]
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        for dsn in made if not self.place.ours else ():
            self.remove(dsn)
        self._shapes.clear()
        self._free.clear()
        self._template = ""

    @contextlib.contextmanager
    def lent(self, *, used: bool = True, more: str = "") -> Iterator[str]:
        """Borrow for the length of a block."""
        dsn = self.borrow(used=used, more=more)
        try:
            yield dsn
        finally:
            self.give_back(dsn)

    def _new(self, more: str) -> str:
        if not self._template:
            self._template = self._made_template()
        name = self._name()
        # By copying files: with fsync off that is twice as fast as the server's own choice.
        self._administrate("CREATE DATABASE {} TEMPLATE {}" + self._strategy, name, self._template)
        dsn = self.place.dsn(name)
        if more:
            self._session(dsn).execute(more)  # type: ignore[arg-type]
        self._more[dsn] = more
        self._shapes[dsn] = _shape(self._session(dsn))
        return dsn

    def _session(self, dsn: str) -> psycopg.Connection:
        """Ours in a database that is lent: a new one would have to learn the catalog each time."""
        if dsn not in self._sessions:
            session = psycopg.connect(dsn, autocommit=True, connect_timeout=10, application_name="jobmaster-tests")
            session.execute(PREPARE_SESSION)
            self._sessions[dsn] = session
        return self._sessions[dsn]

    def _made_template(self) -> str:
        from jobmaster.stores.sql.provision import upgrade

        dsn = self.blank()
        upgrade(dsn)
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            connection.execute(REMEMBER)
        return dsn.rpartition("/")[2].partition("?")[0]

    def _drop(self, dsn: str) -> None:
        del self._shapes[dsn], self._more[dsn]
        self.remove(dsn)

    @property
    def _strategy(self) -> str:
        return " STRATEGY FILE_COPY" if int(self.place.version.split(".")[0]) >= 15 else ""

    def _name(self) -> str:
        return f"jobmaster_test_{os.getpid()}_{next(_numbers)}"

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
