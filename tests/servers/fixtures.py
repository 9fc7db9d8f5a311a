"""Fixtures for tests that need a real server; a test whose server cannot be had is skipped, and says why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.databases import Databases, databases
from tests.servers.obtaining import NoPostgresError, PostgresPlace, obtain_postgres


@pytest.fixture(scope="session")
def postgres() -> PostgresPlace:
    """A running PostgreSQL."""
    try:
        return obtain_postgres()
    except NoPostgresError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_databases(postgres: PostgresPlace) -> Iterator[Databases]:
    """Databases to borrow on it."""
    lender = databases()
    yield lender
    lender.close()


@pytest.fixture
def postgres_database(postgres_databases: Databases) -> Iterator[str]:
    """The address of a database with JobMaster's schema in which there is nothing."""
    with postgres_databases.lent() as dsn:
        yield dsn


@pytest.fixture
def new_postgres_database(postgres_databases: Databases) -> Iterator[str]:
    """One in which no test has been before: plans depend on sizes and statistics that emptied tables keep."""
    with postgres_databases.lent(used=False) as dsn:
        yield dsn
