"""Connections: how they are opened, and which settings a session of each kind has."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import asyncpg

from jobmaster.errors import ConfigurationError
from jobmaster.stores.sql.postgresql.faults import DRIVER, unreachable

if TYPE_CHECKING:
    from jobmaster.settings.dsn import Dsn

OLDEST = 14
"""The oldest server that the statements are written for."""

SESSION_OPTIONS = ("session_host", "session_port")
"""Options of an address that goes through PgBouncer: where the server itself is, for LISTEN and session locks."""

PEOPLE = ("default_transaction_read_only = on", "statement_timeout = '30s'")
"""A question of people may take its time and use any plan, and may not write."""
LISTENING = ("jit = off", "tcp_keepalives_idle = 30")
"""The server notices that a listener's host is gone, and drops its sleep flags, sooner than after its usual hours."""

ARRAYS = {
    1000: ("_bool", 16), 1001: ("_bytea", 17), 1005: ("_int2", 21), 1007: ("_int4", 23), 1016: ("_int8", 20),
    2951: ("_uuid", 2950),
}  # fmt: skip
"""The server's own types of arrays by number (pg_type.dat, the same in all versions): name, and number of the element.

The driver would ask the server for what they are, on each connection anew: 15 ms before a statement's first run.
"""


def hot(seconds: float) -> tuple[str, ...]:
    """Settings of the sessions that verbs run on.

    Args:
        seconds: after which a statement, or a transaction whose client has stopped in the middle, is ended. Shorter
            than a lease, so that what a dead worker left under way holds nobody up for long.
    """
    milliseconds = round(seconds * 1_000)
    return (
        # A statement of the hot path must never scan a table because its plan was made while it was empty.
        "enable_seqscan = off",
        # PostgreSQL 18 (seen in 18.6, not in 15) crashes where a statement that prunes partitions while it runs has
        # looked again at a row that somebody changed: the pruning goes on with what the second look has freed.
        "enable_partition_pruning = off",
        "jit = off",
        "max_parallel_workers_per_gather = 0",
        f"statement_timeout = {milliseconds}",
        f"idle_in_transaction_session_timeout = {milliseconds}",
    )


def beginning(settings: tuple[str, ...], *, pooled: bool) -> str:
    """The statement that begins a transaction. Behind PgBouncer a session has no settings, only each transaction."""
    local = [f"SET LOCAL {setting.removeprefix('default_')}" for setting in settings] if pooled else []
    return "; ".join(["BEGIN", *local])


class Place:
    """Where a store is, and how its connections are opened.

    Args:
        dsn: the address.
        timeout: seconds for opening a connection, and for one statement.
    """

    def __init__(self, dsn: Dsn, *, timeout: float) -> None:
        self.dsn = dsn
        self.timeout = timeout
        self.pooled = any(name in dsn.options for name in SESSION_OPTIONS)
        """Through a PgBouncer that gives each transaction any server connection."""

    async def connect(self, settings: tuple[str, ...], *, direct: bool = False) -> asyncpg.Connection[Any]:
        """A connection with these settings ("name = value"). `direct`: to the server itself, past a PgBouncer.

        Raises:
            ConfigurationError: the address, user or database is wrong, or the server is too old.
            StoreUnavailable: the server does not answer.
        """
        pooled = self.pooled and not direct
        try:
            connection = await asyncpg.connect(
                self._url(direct=direct),
                timeout=self.timeout,
                max_cached_statement_lifetime=0,
                statement_cache_size=0 if pooled else 200,
                server_settings=None if pooled else {"application_name": "jobmaster"},
            )
        except DRIVER as error:
            raise unreachable(error, self.dsn) from error
        except ValueError as error:
            raise ConfigurationError(f"{self.dsn} is no address that asyncpg understands: {error}.") from error
        version = connection.get_server_version()
        if version.major < OLDEST:
            connection.terminate()
            raise ConfigurationError(
                f"{self.dsn} is PostgreSQL {version.major}.{version.minor}, but JobMaster needs {OLDEST} or newer. "
                "Update the server, or name another one."
            )
        try:
            await self._prepare(connection, () if pooled else settings)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, DRIVER):
                raise unreachable(error, self.dsn) from error
            raise
        return connection

    async def _prepare(self, connection: asyncpg.Connection[Any], settings: tuple[str, ...]) -> None:
        # Keys are 16 bytes everywhere in this program, so that they are given and taken as they are.
        await connection.set_type_codec("uuid", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")
        _know_arrays(connection)
        if settings:
            async with asyncio.timeout(self.timeout):
                await connection.execute("; ".join(f"SET {setting}" for setting in settings))

    @property
    def url(self) -> str:
        """The address without our own options, for other drivers."""
        return self._url(direct=False)

    @property
    def direct_url(self) -> str:
        """The same to the server itself, past a PgBouncer."""
        return self._url(direct=True)

    def _url(self, *, direct: bool) -> str:
        """The address for the driver: without our own options, and with the server's own place if `direct`."""
        options = {name: value for name, value in self.dsn.options.items() if name not in SESSION_OPTIONS}
        base, _, query = self.dsn.url.partition("?")
        if not any(name in dict(parse_qsl(query)) for name in SESSION_OPTIONS):
            return self.dsn.url
        if direct:
            host = self.dsn.options.get("session_host", self.dsn.host)
            port = self.dsn.options.get("session_port", "5432")
            scheme, _, rest = base.partition("://")
            login, at, place = rest.rpartition("@")
            base = f"{scheme}://{login}{at}{host}:{port}/{place.partition('/')[2]}"
        return f"{base}?{urlencode(options)}" if options else base


def _know_arrays(connection: asyncpg.Connection[Any]) -> None:
    """Tell the driver what it would ask for. It has no public way: where this one is gone, it asks."""
    told = [
        {
            "oid": number, "ns": "pg_catalog", "name": name, "kind": b"b", "basetype": None, "elemtype": element,
            "elemdelim": ",", "range_subtype": None, "attrtypoids": None, "attrnames": None,
        }
        for number, (name, element) in ARRAYS.items()
    ]  # fmt: skip
    with contextlib.suppress(AttributeError, TypeError, KeyError):
        connection._protocol.get_settings().register_data_types(told)  # noqa: SLF001 - see above
