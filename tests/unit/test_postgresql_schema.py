"""The schema on PostgreSQL: what is made of an empty database, and history that is made and dropped by the week."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jobmaster.errors import ConfigurationError, SchemaError, StoreUnavailable
from jobmaster.model.ids import JobKey
from jobmaster.model.job import NewJob
from jobmaster.stores.sql.postgresql.weeks import WEEK_MS, Week
from jobmaster.stores.sql.provision import status, upgrade
from jobmaster.stores.sql.version import SCHEMA_VERSION
from tests.servers.databases import Databases
from tests.unit.postgres_place import new_job, opened

pytestmark = pytest.mark.backend("postgresql")

WEEK_US = WEEK_MS * 1_000
NOW_US = 2_900 * WEEK_US + 5
"""A moment in the week 2,900 since 1970."""

SHAPE = (
    """SELECT table_name, column_name, data_type, column_default, is_nullable, character_maximum_length
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2""",
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
    "SELECT relname, relkind, reloptions::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
)


@pytest.fixture
def blank(postgres_databases: Databases) -> Iterator[str]:
    dsn = postgres_databases.blank()
    yield dsn
    postgres_databases.remove(dsn)


def ask(dsn: str, statement: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement).fetchall()


def shape_of(dsn: str) -> list[Any]:
    return [ask(dsn, statement) for statement in SHAPE]


async def open_and_close(dsn: str, **options: Any) -> None:
    async with opened(dsn, **options):
        pass


def test_a_new_database_is_what_all_migrations_make_of_one(blank: str, postgres_databases: Databases) -> None:
    migrated = postgres_databases.blank()
    asyncio.run(open_and_close(blank))
    assert upgrade(migrated).is_current
    assert shape_of(blank) == shape_of(migrated)
    assert status(blank).found == SCHEMA_VERSION
    postgres_databases.remove(migrated)


def test_two_that_open_a_new_database_at_once_both_find_the_tables(blank: str) -> None:
    async def both() -> None:
        await asyncio.gather(*(open_and_close(blank) for _ in range(4)))

    asyncio.run(both())
    assert ask(blank, "SELECT version_num FROM jm_schema") == [(SCHEMA_VERSION,)]


def test_a_database_without_tables_is_left_alone_where_nothing_may_be_made(blank: str) -> None:
    with pytest.raises(SchemaError, match="auto_provision is off"):
        asyncio.run(open_and_close(blank, auto_provision=False))
    assert ask(blank, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'jm_%'") == [(0,)]


def test_a_schema_of_a_newer_jobmaster_is_refused(blank: str) -> None:
    asyncio.run(open_and_close(blank))
    with psycopg.connect(blank) as connection:
        connection.execute("UPDATE jm_schema SET version_num = '9999', oldest_code = '9999'")
    with pytest.raises(SchemaError, match="made by a newer JobMaster"):
        asyncio.run(open_and_close(blank))


def test_a_wrong_address_says_what_is_wrong_and_hides_the_password(blank: str) -> None:
    missing = blank.rpartition("/")[0] + "/nowhere"
    with pytest.raises(ConfigurationError, match="no such database"):
        asyncio.run(open_and_close(missing))
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        asyncio.run(open_and_close("postgresql://me:hush@127.0.0.1:1/shop"))
    assert "hush" not in str(caught.value)


# -- weeks


def at(week: int, number: int = 0) -> JobKey:
    return (week * WEEK_MS).to_bytes(6, "big") + number.to_bytes(10, "big")


def job_of(week: int, number: int = 1) -> NewJob:
    job = new_job()
    return NewJob(key=at(week, number), envelope=job.envelope, payload=job.payload)


def partitions(dsn: str) -> list[str]:
    found = ask(dsn, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'jm_job'::regclass ORDER BY 1")
    return [name for (name,) in found if name != "jm_job_default"]


def test_partitions_are_there_before_their_week_begins(postgres_database: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_database, clock_us=lambda: NOW_US) as store:
            await store.purge(before_us=1, limit=10)
            await store.purge(before_us=1, limit=10)
            await store.hold([job_of(2_901)])

    asyncio.run(scenario())
    assert partitions(postgres_database) == [Week(number).name for number in (2_900, 2_901, 2_902)]
    assert ask(postgres_database, f"SELECT count(*) FROM {Week(2_901).name}") == [(1,)]


def test_a_week_whose_jobs_lie_in_the_default_partition_keeps_them_there(postgres_database: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_database, clock_us=lambda: NOW_US) as store:
            await store.hold([job_of(2_900)])
            await store.purge(before_us=1, limit=10)
            assert await store.get_job(at(2_900, 1)) is not None

    asyncio.run(scenario())
    assert partitions(postgres_database) == [Week(2_901).name, Week(2_902).name]


def test_a_week_is_dropped_when_all_its_jobs_are_old_and_not_before(postgres_database: str) -> None:
    now_us = NOW_US

    async def scenario() -> None:
        nonlocal now_us
        async with opened(postgres_database, clock_us=lambda: now_us) as store:
            await store.purge(before_us=1, limit=10)
            await store.hold([job_of(2_900, number) for number in range(1, 4)])
            await store.hold([job_of(2_901)])
            for number in range(1, 4):
                await store.cancel(at(2_900, number))
            now_us += 5 * WEEK_US

            # One of them is run again by a person: the week stays for it.
            assert await store.requeue(at(2_900, 3))
            assert await store.purge(before_us=now_us - WEEK_US, limit=1) == 1
            assert Week(2_900).name in partitions(postgres_database)

            await store.cancel(at(2_900, 3))
            now_us += 5 * WEEK_US
            assert await store.purge(before_us=now_us - WEEK_US, limit=1) >= 1
            assert await store.get_job(at(2_900, 3)) is None
            assert (await store.get_job(at(2_901, 1))) is not None

    asyncio.run(scenario())
    assert Week(2_900).name not in partitions(postgres_database)
    assert Week(2_901).name in partitions(postgres_database)


def test_dropping_a_week_waits_for_nobody(postgres_database: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_database, clock_us=lambda: NOW_US) as store:
            await store.purge(before_us=1, limit=10)
            reader = await asyncio.to_thread(psycopg.connect, postgres_database)
            with reader:
                reader.execute("SELECT count(*) FROM jm_job")
                assert await store.purge(before_us=NOW_US + 9 * WEEK_US, limit=10) == 0
                assert Week(2_900).name in partitions(postgres_database)
                await store.hold([job_of(2_900)])
            reader.close()

    asyncio.run(scenario())
