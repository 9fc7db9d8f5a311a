"""The schema for people: what a database has, bringing it up to date, and the SQL for those who run it themselves.

This imports SQLAlchemy and Alembic; it is for the command line and for the migrator's own process (`migrate.py`).
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobmaster.errors import ConfigurationError, SchemaError
from jobmaster.settings.dsn import MSSQL, MYSQL, POSTGRESQL, SCHEMES, SQLITE, parse_dsn, require_driver
from jobmaster.stores.sql.version import READ_VERSION, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from sqlalchemy import Connection, Engine

    from jobmaster.settings.dsn import Dsn

MIGRATIONS = Path(__file__).with_name("migrations")

_DRIVERS = {POSTGRESQL: "postgresql+psycopg", MYSQL: "mysql+pymysql", MSSQL: "mssql+pyodbc"}

# A second migrator waits here until the first is done, and then finds nothing to do.
_LOCKS = {
    POSTGRESQL: "SELECT pg_advisory_xact_lock(4242260001)",
    MYSQL: "SELECT GET_LOCK('jobmaster-migration', 60)",
    MSSQL: "EXEC sp_getapplock 'jobmaster-migration', 'Exclusive', 'Transaction', 60000",
}


class SchemaStatus(msgspec.Struct, frozen=True):
    """What schema a database has. `found` None or empty: no JobMaster tables. `pending`: the missing migrations."""

    database: str
    found: str | None
    expected: str
    pending: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """True: this JobMaster can work on it."""
        return self.found == self.expected


def status(dsn: str) -> SchemaStatus:
    """The schema of a database, which is not changed.

    Raises:
        ConfigurationError: `dsn` is no address of an SQL database, or its driver is missing.
        StoreUnavailable: it cannot be reached.
    """
    address = _address(dsn)
    if address.kind == SQLITE and not Path(address.path).exists():
        return SchemaStatus(str(address), None, SCHEMA_VERSION, _missing(None))
    with _connected(address) as connection:
        found = _stored_version(connection)
    return SchemaStatus(str(address), found, SCHEMA_VERSION, _missing(found))


def upgrade(dsn: str) -> SchemaStatus:
    """Run the migrations that are missing, all or none where the database can undo DDL. One migrator at a time.

    Raises:
        ConfigurationError: `dsn` is no address of an SQL database, its driver is missing, or a file can't be made.
        SchemaError: the schema is newer than this code.
        StoreUnavailable: the database cannot be reached, or another migrator holds it for too long.
    """
    from alembic import command

    address = _address(dsn)
    if address.kind == SQLITE:
        from jobmaster.stores.sql.sqlite.connection import make_file

        make_file(address.path)
    with _connected(address) as connection, _alone(connection, address):
        _require_known(_stored_version(connection), address)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return status(dsn)


def sql(dsn_or_dialect: str) -> str:
    """The statements that make an empty database one of this version, for those who run them by hand.

    Args:
        dsn_or_dialect: an address, or one of sqlite, postgresql, mysql, mssql.
    """
    from alembic import command

    kind = SCHEMES.get(dsn_or_dialect) or _parsed(dsn_or_dialect).kind
    config = _config()
    config.output_buffer = io.StringIO()
    config.attributes["dialect"] = kind
    command.upgrade(config, "head", sql=True)
    lines = config.output_buffer.getvalue().splitlines()
    return "\n".join(line for line in lines if not line.startswith("-- ")).strip() + "\n"


def _address(dsn: str) -> Dsn:
    address = _parsed(dsn)
    require_driver(address)
    return address


def _parsed(dsn: str) -> Dsn:
    address = parse_dsn(dsn, name="master")
    if not address.is_sql:
        raise ConfigurationError(f"{address} is no SQL database: it has no tables. Give the address of a master.")
    return address


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _missing(found: str | None) -> tuple[str, ...]:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    known = [script.revision for script in scripts.walk_revisions()][::-1]
    return tuple(revision for revision in known if found is None or revision > found)


def _stored_version(connection: Connection) -> str | None:
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("jm_schema"):
        return None
    row = connection.execute(text(READ_VERSION)).fetchone()
    return "" if row is None else str(row[0])


def _require_known(found: str | None, address: Dsn) -> None:
    if found is not None and found > SCHEMA_VERSION:
        raise SchemaError(
            f"{address} has schema {found}, made by a newer JobMaster; this one knows {SCHEMA_VERSION}. "
            "Update this installation: pip install -U jobmaster"
        )


@contextmanager
def _connected(address: Dsn) -> Iterator[Connection]:
    from sqlalchemy.exc import DBAPIError

    engine = _engine(address)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        from jobmaster.errors import StoreUnavailable

        cause = _cause(error, address)
        raise (
            cause if isinstance(cause, (StoreUnavailable, ConfigurationError)) else StoreUnavailable(str(cause))
        ) from error
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


def _refusal(address: Dsn) -> BaseException | None:
    import asyncio

    from jobmaster.errors import StoreUnavailable
    from jobmaster.stores.sql.postgresql.connection import Place

    async def attempt() -> None:
        await (await Place(address, timeout=10).connect(())).close()

    try:
        asyncio.run(attempt())
    except (StoreUnavailable, ConfigurationError) as refusal:
        return refusal
    return None


def _engine(address: Dsn) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import URL
    from sqlalchemy.pool import NullPool

    if address.kind == POSTGRESQL:
        import psycopg

        from jobmaster.stores.sql.postgresql.connection import Place

        # The driver reads the address itself: SQLAlchemy knows no ports of several hosts, psycopg no options of ours.
        place = Place(address, timeout=10)
        return create_engine(
            f"{_DRIVERS[POSTGRESQL]}://", creator=lambda: psycopg.connect(place.url), poolclass=NullPool
        )
    if address.kind != SQLITE:
        _, _, rest = address.url.partition("://")
        return create_engine(f"{_DRIVERS[address.kind]}://{rest}", poolclass=NullPool)
    url = URL.create("sqlite", database=address.path)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 30, "isolation_level": None})

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # The first statement takes the lock of the file: nobody else writes until the migration has ended.
        connection.exec_driver_sql("BEGIN EXCLUSIVE")

    return engine


@contextmanager
def _alone(connection: Connection, address: Dsn) -> Iterator[None]:
    """A transaction in which no other migrator works."""
    with connection.begin():
        lock = _LOCKS.get(address.kind)
        if lock is not None:
            connection.exec_driver_sql(lock)
        yield
        if address.kind == MYSQL:
            connection.exec_driver_sql("SELECT RELEASE_LOCK('jobmaster-migration')")
