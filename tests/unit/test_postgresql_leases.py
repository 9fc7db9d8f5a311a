"""Renewals on PostgreSQL: what a quiet one costs, which cancels it tells, and how many buckets there can be."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import psycopg
import pytest

from jobmaster.errors import StoreUnavailable
from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import JobKey
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration, Renewal
from jobmaster.stores.sql.postgresql.cancel import BURY
from jobmaster.stores.sql.postgresql.news import LONGEST_CANCEL_US
from jobmaster.stores.sql.postgresql.numbering import MOST_BUCKETS
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.servers.databases import Databases
from tests.unit.postgres_place import new_job, opened

pytestmark = pytest.mark.backend("postgresql")

NOON_US = 1_790_000_000_000_000
ONE, TWO = JobKey(bytes(15) + b"1"), JobKey(bytes(15) + b"2")

UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jm_worker'"
VERSIONS = "SELECT id, xmin::text, xmax::text FROM jm_bucket ORDER BY id"


async def worker(store: PostgresStore, name: str) -> int:
    return (await store.register(Registration(name, 1, "here", ("",), WorkerMode.FULL))).worker


async def bucket(store: PostgresStore, owner: int, token: str) -> Bucket:
    return (await store.create_buckets(owner, [NewBucket(token, "here", "", 3)]))[0]


async def tree(store: PostgresStore, engines: int) -> dict[int, list[Bucket]]:
    """Workers with four buckets each."""
    owned = {}
    for number in range(engines):
        one = await worker(store, f"w{number}")
        owned[one] = [await bucket(store, one, f"{one}-{count}") for count in range(4)]
    return owned


@asynccontextmanager
async def counted(store: PostgresStore) -> AsyncIterator[list[str]]:
    """The statements that reach the server meanwhile, over the store's one connection."""
    statements: list[str] = []
    (connection,) = store._pool._idle

    async def note(record: Any) -> None:
        statements.append(record.query)

    connection.add_query_logger(note)
    try:
        yield statements
        await asyncio.sleep(0)  # the driver tells of the last one on the next turn
    finally:
        connection.remove_query_logger(note)


def versions(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(VERSIONS).fetchall()


@pytest.mark.parametrize("engines", [1, 16])
def test_a_quiet_renewal_is_six_statements_and_writes_no_bucket(postgres_database: str, engines: int) -> None:
    async def run() -> None:
        async with opened(postgres_database) as store:
            owned = await tree(store, engines)
            renewals = [
                Renewal(one, 1, held=[(ONE, 1)], cut_us=NOON_US, adopt=2, depths={b.id: 0 for b in buckets})
                for one, buckets in owned.items()
            ]
            await store.renew(renewals)
            before = versions(postgres_database)
            async with counted(store) as statements:
                grants = await store.renew(renewals)
            assert [len(grant.buckets) for grant in grants] == [4] * engines
            assert len(statements) <= 6, statements
            assert versions(postgres_database) == before

    asyncio.run(run())


def test_one_more_statement_stores_all_depths_that_have_changed(postgres_database: str) -> None:
    async def run() -> None:
        async with opened(postgres_database) as store:
            owned = await tree(store, 3)
            before = versions(postgres_database)
            renewals = [Renewal(one, 1, depths={buckets[0].id: 7, buckets[1].id: 0}) for one, buckets in owned.items()]
            async with counted(store) as statements:
                grants = await store.renew(renewals)
            assert len(statements) <= 7, statements
            assert [[one.depth for one in grant.buckets] for grant in grants] == [[7, 0, 0, 0]] * 3
            now = versions(postgres_database)
            changed = [row[0] for row, old in zip(now, before, strict=True) if row[1] != old[1]]
            assert changed == [buckets[0].id for buckets in owned.values()]
            assert {one.id: one.depth for one in await store.list_buckets() if one.depth} == dict.fromkeys(changed, 7)

    asyncio.run(run())


@asynccontextmanager
async def cancelling(dsn: str, key: JobKey, now_us: int) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A cancel of another process that has drawn its number and has not committed."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("BEGIN")
        await connection.execute(BURY, uuid.UUID(bytes=key), now_us, "")
        yield connection
    finally:
        await connection.close()


async def told(store: PostgresStore, renewal: Renewal) -> tuple[list[JobKey], int]:
    (grant,) = await store.renew([renewal])
    return grant.cancels, grant.cancels_upto


def test_a_cancel_that_commits_after_a_later_one_is_told(postgres_database: str) -> None:
    async def run() -> None:
        async with opened(postgres_database) as store:
            one = await worker(store, "w")
            async with cancelling(postgres_database, ONE, NOON_US) as slow:
                await store.cancel(TWO)
                assert await told(store, Renewal(one, 1)) == ([TWO], 0)
                await slow.execute("COMMIT")
            keys, upto = await told(store, Renewal(one, 2))
            assert (set(keys), upto > 0) == ({ONE, TWO}, True)
            assert await told(store, Renewal(one, 3, cancels_after=upto)) == ([], upto)

    asyncio.run(run())


def test_a_cancel_that_never_commits_holds_nothing_up_for_long(postgres_database: str) -> None:
    async def run() -> None:
        now_us = NOON_US
        async with opened(postgres_database, clock_us=lambda: now_us) as store:
            one = await worker(store, "w")
            async with cancelling(postgres_database, ONE, NOON_US):
                await store.cancel(TWO)
                now_us += LONGEST_CANCEL_US
                keys, upto = await told(store, Renewal(one, 1))
                assert (keys, upto > 0) == ([TWO], True)

    asyncio.run(run())


def test_an_engine_is_told_only_what_it_does_not_know(postgres_database: str) -> None:
    async def run() -> None:
        async with opened(postgres_database) as store:
            old, new = await worker(store, "old"), await worker(store, "new")
            await store.cancel(ONE)
            _, upto = await told(store, Renewal(old, 1))
            await store.cancel(TWO)
            grants = await store.renew([Renewal(old, 2, cancels_after=upto), Renewal(new, 1)])
            assert [grant.cancels for grant in grants] == [[TWO], [ONE, TWO]]
            assert {grant.cancels_upto for grant in grants} == {upto + 1}

    asyncio.run(run())


def test_the_last_number_of_a_bucket_works_and_the_next_is_refused(postgres_database: str) -> None:
    async def run() -> None:
        async with opened(postgres_database) as store:
            one = await worker(store, "w")
            with psycopg.connect(postgres_database, autocommit=True) as connection:
                connection.execute(f"SELECT setval('jm_bucket_id_seq', {MOST_BUCKETS - 2})")
            last = await bucket(store, one, "last")
            assert last.id == MOST_BUCKETS - 1
            job = new_job()
            await store.push(last.id, [job])
            read = await store.read(last.fence, None, limit=10, window_us=0)
            assert [message.key for message in read.messages] == [job.key]
            with pytest.raises(StoreUnavailable, match=str(MOST_BUCKETS)):
                await bucket(store, one, "too many")
            assert [found.id for found in await store.list_buckets()] == [last.id]

    asyncio.run(run())


def test_a_renewal_writes_no_index(postgres_databases: Databases) -> None:
    """Else renewals beside a transaction that is held open for hours cost more and more."""

    async def run(dsn: str) -> None:
        async with opened(dsn) as store:
            one = await worker(store, "w")
            for number in range(3):
                await store.renew([Renewal(one, number)])

    with postgres_databases.lent(used=False) as dsn:
        asyncio.run(run(dsn))
        with psycopg.connect(dsn, autocommit=True) as connection:
            # What a session has counted is seen by others once it has ended.
            until = time.monotonic() + 10
            while (counts := connection.execute(UPDATES).fetchone()) != (3, 3) and time.monotonic() < until:
                time.sleep(0.01)
            assert counts == (3, 3)
