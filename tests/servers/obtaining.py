"""Where the tests' PostgreSQL comes from: an address that was given, a server of our own, or a container.

`JOBMASTER_TEST_POSTGRES` is the address of a server on which the user may create databases; the suite makes its own
there, named `jobmaster_test_…`, and removes them.
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit, urlunsplit

from tests.servers.launcher import ServerError, memory_folder
from tests.servers.postgres import PostgresServer, execute

SETTING = "JOBMASTER_TEST_POSTGRES"
IMAGE = "postgres:18"
COMMAND = "postgres -c fsync=off -c max_connections=300"

# Read when this is imported: tests/conftest.py removes every JOBMASTER_ variable from the environment afterwards.
_GIVEN = os.environ.get(SETTING, "")


@dataclass(frozen=True)
class PostgresPlace:
    """A running PostgreSQL: the address of its first database, its version, and where it came from.

    `ours`: it ends with this process, and everything in it.
    """

    address: str
    version: str
    origin: str
    ours: bool = False

    def dsn(self, database: str) -> str:
        """The address of another database of the server."""
        parts = urlsplit(self.address)
        return urlunsplit(parts._replace(path=f"/{database}"))

    def __str__(self) -> str:
        return f"{self.version}, {self.origin}"


class NoPostgresError(Exception):
    """There is no PostgreSQL for the tests; the text says what was tried, and what to do."""


@cache
def obtain_postgres() -> PostgresPlace:
    """The PostgreSQL of this process, started at the first call where it is our own.

    Raises:
        NoPostgresError: none of the ways led to one.
    """
    if _GIVEN:
        return _described(_GIVEN, SETTING)
    tried = []
    for way in (_own, _container):
        try:
            return way()
        except ServerError as error:
            tried.append(str(error))
    raise NoPostgresError(f"no PostgreSQL: {'; '.join(tried)}; or name one in {SETTING}")


def found_postgres() -> PostgresPlace | None:
    """The PostgreSQL that this process has obtained; None: it did not ask for one, or there is none."""
    return obtain_postgres() if obtain_postgres.cache_info().currsize else None


def _own() -> PostgresPlace:
    server = PostgresServer(within=memory_folder()).start()
    return PostgresPlace(server.dsn(), server.version, "wheel", ours=True)


def _container() -> PostgresPlace:
    """The official image, where Docker runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # testcontainers warns about itself
        try:
            import docker
            from testcontainers.postgres import PostgresContainer

            docker.from_env(timeout=5).ping()
            container = PostgresContainer(IMAGE, driver=None).with_command(COMMAND)
            container.start()
        except Exception as error:
            raise ServerError(f"no container: {type(error).__name__}") from error
    stop: Callable[[], None] = container.stop
    atexit.register(stop)
    return _described(container.get_connection_url(), f"container {IMAGE}")


def _described(address: str, origin: str) -> PostgresPlace:
    import psycopg

    try:
        version = str(execute(address, "SHOW server_version")[0][0]).split(" ")[0]
    except psycopg.Error as error:
        raise NoPostgresError(f"the PostgreSQL of {origin} does not answer: {type(error).__name__}") from error
    return PostgresPlace(address, version, origin)
