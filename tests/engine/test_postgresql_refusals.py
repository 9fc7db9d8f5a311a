"""What a server refuses: a right that is missing at the start, writes on a standby."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from unittest import mock

import asyncpg
import pytest

from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.direct import DirectAgent
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql.connection import Place
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.servers.databases import Databases

pytestmark = pytest.mark.backend("postgresql")

END_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Handed:
    """Jobs handed over by a thread."""

    def __init__(self, bucket: int) -> None:
        self.bucket = bucket
        self.jobs = [_job()]
        self.told = threading.Event()
        self.error: Exception | None = None

    def answered(self, error: Exception | None) -> None:
        self.error = error
        self.told.set()


def _job() -> NewJob:
    envelope = Envelope("task", b"", 1, 1)
    return NewJob(new_job_key(), envelope, encode_envelope(envelope), None, 0)


async def test_a_user_that_may_not_make_tables_is_told_so(postgres_databases: Databases) -> None:
    dsn = postgres_databases.blank()
    people = await asyncpg.connect(dsn)
    try:
        await people.execute("CREATE ROLE jobmaster_test_poor LOGIN PASSWORD 'hidden'")
        await people.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        scheme, _, place = dsn.partition("://")
        poor = f"{scheme}://jobmaster_test_poor:hidden@{place.rpartition('@')[2]}"
        with pytest.raises(ConfigurationError, match="lacks a right") as refused:
            await PostgresStore.open(poor, rules=MasterRules())
        assert "hidden" not in str(refused.value)
    finally:
        await people.execute("DROP ROLE IF EXISTS jobmaster_test_poor")
        await people.close()
        postgres_databases.remove(dsn)


@pytest.mark.fault("C6")
async def test_sessions_that_take_no_writes_are_not_kept(postgres_database: str) -> None:
    """After a failover the address may name the old primary for a while, which is a standby now."""
    store = await PostgresStore.open(postgres_database, rules=MasterRules())
    people = await asyncpg.connect(postgres_database)
    name = await people.fetchval("SELECT quote_ident(current_database())")
    try:
        worker = (await store.register(Registration("w", 1, "here", ("",), WorkerMode.FULL))).worker
        (bucket,) = await store.create_buckets(worker, [NewBucket("t", "here", "", 3)])
        await people.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await people.execute(END_OTHERS)
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            await store.push(bucket.id, [_job()])
        assert isinstance(store, DirectAgent)
        early, late = Handed(bucket.id), Handed(bucket.id)
        store.hand(early)
        assert isinstance(early.error, StoreUnavailable)
        await people.execute("SET default_transaction_read_only = off")
        await people.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await store.push(bucket.id, [_job()])
        store.hand(late)
        assert (late.told.is_set(), late.error) == (True, None)
    finally:
        await people.close()
        await store.close_store()


async def test_a_server_that_lets_nobody_listen_is_not_asked_all_the_time(postgres_database: str) -> None:
    """A standby takes the connection and refuses to listen; when it is the primary, signals come again."""
    store = await PostgresStore.open(postgres_database, rules=MasterRules())
    opened: list[float] = []
    often, heard = asyncio.Event(), asyncio.Event()
    connect = Place.connect

    async def counted(place: Place, *values: Any, **options: Any) -> Any:
        opened.append(time.monotonic())
        if len(opened) == 4:
            often.set()
        return await connect(place, *values, **options)

    async def refused(*_: object) -> None:
        raise asyncpg.ReadOnlySQLTransactionError("cannot execute LISTEN during recovery")

    try:
        async with asyncio.timeout(20):
            deaf = mock.patch.object(asyncpg.Connection, "add_listener", refused)
            with mock.patch.object(Place, "connect", counted), deaf:
                store.subscribe("workers", heard.set)
                await often.wait()
            assert opened[-1] - opened[0] > 0.05 + 0.1 + 0.2
            assert not heard.is_set()
            await heard.wait()
    finally:
        await store.close_store()
