"""The proxy cuts where it says: between a commit and its answer, or before the commit, with both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from tests.servers.databases import Databases
from tests.servers.fault_proxy import AFTER, BEFORE, FaultProxy
from tests.servers.postgres import execute

pytestmark = pytest.mark.backend("postgresql")

INSERT = "INSERT INTO t VALUES (7)"
LOST = (OSError, psycopg.OperationalError, asyncpg.PostgresConnectionError)


@pytest.fixture(scope="module")
def direct(postgres_databases: Databases) -> Iterator[str]:
    dsn = postgres_databases.blank()
    execute(dsn, "CREATE TABLE t (x int)")
    yield dsn
    postgres_databases.remove(dsn)


@pytest.fixture
def proxy(direct: str) -> Iterator[FaultProxy]:
    execute(direct, "TRUNCATE t")
    with FaultProxy(direct) as proxy:
        yield proxy


def rows(direct: str) -> int:
    return int(execute(direct, "SELECT count(*) FROM t")[0][0])


def insert_by_psycopg(dsn: str, *, transaction: bool) -> None:
    with psycopg.connect(dsn, autocommit=not transaction) as connection:
        connection.execute(INSERT)


def insert_by_asyncpg(dsn: str, *, transaction: bool) -> None:
    async def insert() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction() if transaction else contextlib.nullcontext():
                await connection.execute("INSERT INTO t VALUES ($1)", 7)
        finally:
            connection.terminate()

    asyncio.run(insert())


BOTH_DRIVERS = pytest.mark.parametrize("insert", [insert_by_psycopg, insert_by_asyncpg])


@BOTH_DRIVERS
@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize(("moment", "stored"), [(AFTER, 1), (BEFORE, 0)])
def test_a_commit_is_cut_before_or_after_the_server_has_it(
    proxy: FaultProxy, direct: str, insert, transaction: bool, moment: str, *, stored: int
) -> None:
    proxy.cut_next(moment)
    with pytest.raises(LOST):
        insert(proxy.dsn(direct), transaction=transaction)
    assert rows(direct) == stored
    assert [end.has("insert into t") for end in proxy.cuts] == [True]
    insert(proxy.dsn(direct), transaction=transaction)
    assert rows(direct) == stored + 1


@BOTH_DRIVERS
def test_what_does_not_match_passes(proxy: FaultProxy, direct: str, insert) -> None:
    for moment in (BEFORE, AFTER):
        proxy.cut_next(moment, matching="another_table")
    insert(proxy.dsn(direct), transaction=True)
    insert(proxy.dsn(direct), transaction=False)
    assert (rows(direct), proxy.cuts) == (2, [])


def test_a_rollback_is_no_commit(proxy: FaultProxy, direct: str) -> None:
    proxy.cut_next(AFTER)
    with psycopg.connect(proxy.dsn(direct)) as connection:
        connection.execute(INSERT)
        connection.rollback()
        assert proxy.cuts == []
        connection.execute(INSERT)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    assert rows(direct) == 1


def test_a_copy_passes_while_somebody_chooses(proxy: FaultProxy, direct: str) -> None:
    proxy.cut_next(AFTER, matching="another_table")
    proxy.cut_next(BEFORE, matching="another_table")
    with psycopg.connect(proxy.dsn(direct), autocommit=True) as connection:
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write_row((1,))
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_a_client_that_vanished_keeps_its_locks_as_long_as_the_server_does_not_know(
    proxy: FaultProxy, direct: str
) -> None:
    proxy.server_stays = True
    proxy.cut_next(BEFORE)
    with pytest.raises(psycopg.OperationalError):
        lock(proxy.dsn(direct))
    with pytest.raises(psycopg.errors.LockNotAvailable):
        lock(direct)


def lock(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("LOCK TABLE t NOWAIT")


def test_what_is_stalled_arrives_later(proxy: FaultProxy, direct: str) -> None:
    async def ask() -> None:
        connection = await asyncpg.connect(proxy.dsn(direct))
        proxy.stall()
        asking = asyncio.ensure_future(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait([asking], timeout=0.2)
        assert not done
        proxy.resume()
        assert await asyncio.wait_for(asking, 20) == 1
        await connection.close()

    asyncio.run(ask())


def test_latency_counts_each_way(proxy: FaultProxy, direct: str) -> None:
    with psycopg.connect(proxy.dsn(direct), autocommit=True) as connection:
        proxy.latency = 0.05
        begun = time.monotonic()
        connection.execute("SELECT 1")
        assert time.monotonic() - begun >= 0.1


def test_connections_are_cut_and_refused_and_taken_again(proxy: FaultProxy, direct: str) -> None:
    with psycopg.connect(proxy.dsn(direct), autocommit=True) as connection:
        proxy.refuse()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(proxy.dsn(direct))
        assert proxy.cut_all() == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    proxy.accept()
    insert_by_psycopg(proxy.dsn(direct), transaction=False)
    assert rows(direct) == 1
