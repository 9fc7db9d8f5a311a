"""How the migrator reaches a database: connections of SQLAlchemy, and its errors in the words that workers use."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from jobmaster.errors import ConfigurationError, JobMasterError, StoreUnavailable
from jobmaster.settings.dsn import MSSQL, MYSQL, POSTGRESQL, SQLITE, parse_dsn, require_driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from jobmaster.settings.dsn import Dsn

_DRIVERS = {POSTGRESQL: "postgresql+psycopg", MYSQL: "mysql+pymysql", MSSQL: "mssql+pyodbc"}
FILE_PATIENCE = 30.0
"""Seconds to wait for the lock of a file: its writers hold it for milliseconds, a migration for longer."""


def address_of(dsn: str) -> Dsn:
    """The address of an SQL database whose driver is there.

    Raises:
        ConfigurationError: it is none, or its driver is missing.
    """
    address = parsed(dsn)
    require_driver(address)
    return address


def parsed(dsn: str) -> Dsn:
    """The address of an SQL database.

    Raises:
        ConfigurationError: it is none.
    """
    address = parse_dsn(dsn, name="master")
    if not address.is_sql:
        raise ConfigurationError(f"{address} is no SQL database: it has no tables. Give the address of a master.")
    return address


@contextmanager
def reached(address: Dsn, *, writes: bool) -> Iterator[Engine]:
    """An engine for a while; errors that come out of its use are told as workers tell them.

    Raises:
        ConfigurationError: address, user, database or a right is wrong.
        StoreUnavailable: it cannot be reached, or cannot be changed now.
    """
    from sqlalchemy.exc import DBAPIError

    engine = _engine(address, writes=writes)
    try:
        yield engine
    except DBAPIError as error:
        cause = _cause(error, address)
        told = cause if isinstance(cause, (StoreUnavailable, ConfigurationError)) else StoreUnavailable(str(cause))
        raise told from error
    finally:
        engine.dispose()


def _cause(error: Exception, address: Dsn) -> BaseException:
    original = getattr(error, "orig", None) or error
    if address.kind == SQLITE:
        from jobmaster.stores.sql.sqlite.faults import translated

        return translated(original, address.path, opening=True)
    if address.kind == POSTGRESQL:
        return _postgresql_cause(original, address)
    return RuntimeError(
        f"{address} failed: {type(original).__name__}. Is the server running, and may this user change tables?"
    )


def _postgresql_cause(error: BaseException, address: Dsn) -> BaseException:
    """What workers and producers would be told."""
    from concurrent.futures import ThreadPoolExecutor

    from jobmaster.stores.sql.postgresql.faults import sqlstate, unreachable

    if sqlstate(error):
        return unreachable(error, address)
    # psycopg has no code for a connection that was refused, and its text is in the server's language.
    with ThreadPoolExecutor(1) as outside_of_any_loop:
        return outside_of_any_loop.submit(_refusal, address).result() or unreachable(error, address)


def _refusal(address: Dsn) -> JobMasterError | None:
    import asyncio

    from jobmaster.stores.sql.postgresql.connection import Place

    async def attempt() -> None:
        await (await Place(address, timeout=10).connect(())).close()

    try:
        asyncio.run(attempt())
    except (StoreUnavailable, ConfigurationError) as refusal:
        return refusal
    return None


def _engine(address: Dsn, *, writes: bool) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import URL
    from sqlalchemy.pool import NullPool

    if address.kind == POSTGRESQL:
        import psycopg

        from jobmaster.stores.sql.postgresql.connection import Place

        # The driver reads the address itself: SQLAlchemy knows no ports of several hosts, psycopg no options of ours.
        # The server itself, past a PgBouncer: locks and limits belong to a session.
        server = Place(address, timeout=10).direct_url
        connect = partial(psycopg.connect, server)
        return create_engine(f"{_DRIVERS[POSTGRESQL]}://", creator=connect, poolclass=NullPool)
    if address.kind != SQLITE:
        _, _, rest = address.url.partition("://")
        return create_engine(f"{_DRIVERS[address.kind]}://{rest}", poolclass=NullPool)
    url = URL.create("sqlite", database=address.path)
    options = {"timeout": FILE_PATIENCE, "isolation_level": None}
    engine = create_engine(url, poolclass=NullPool, connect_args=options)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Who changes the file takes its lock with the first statement: nobody else writes until the step has ended.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
