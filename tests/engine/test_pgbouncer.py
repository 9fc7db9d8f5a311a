"""The PostgreSQL store through a PgBouncer in transaction mode; signals and sleep flags go to the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from jobmaster.errors import StoreUnavailable
from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import MasterRules
from jobmaster.settings.dsn import parse_dsn
from jobmaster.stores.sql.postgresql.faults import undone
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.servers.launcher import ServerError
from tests.servers.pgbouncer import PgBouncer

pytestmark = [pytest.mark.backend("pgbouncer"), pytest.mark.fault("E9")]


@pytest.fixture
def bouncer(postgres_database: str) -> Iterator[PgBouncer]:
    """Two server connections for everybody: a session's state would not survive from one statement to the next."""
    launched = PgBouncer(postgres_database, pool=2)
    try:
        launched.start()
    except ServerError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    with launched:
        yield launched


def through(bouncer: PgBouncer, direct: str) -> str:
    server = urlsplit(direct)
    address = bouncer.dsn(server.path[1:])
    return f"{address}?session_host={server.hostname}&session_port={server.port}"


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(address, rules=MasterRules())
    try:
        yield store
    finally:
        await store.close_store()


async def owned(store: PostgresStore) -> Bucket:
    worker = (await store.register(Registration("w", 1, "here", ("",), WorkerMode.FULL))).worker
    (bucket,) = await store.create_buckets(worker, [NewBucket("t", "here", "", 3)])
    await store.fence(bucket.fence)
    return bucket


def job() -> NewJob:
    envelope = Envelope("greet", b"[]", 1, 1)
    return NewJob(new_job_key(), envelope, encode_envelope(envelope))


async def test_verbs_at_once_share_two_connections(bouncer: PgBouncer, postgres_database: str) -> None:
    async with opened(through(bouncer, postgres_database)) as store:
        bucket = await owned(store)
        jobs = [job() for _ in range(40)]
        await asyncio.gather(*(store.push(bucket.id, [one]) for one in jobs))
        read = await store.read(bucket.fence, None, limit=100, window_us=0)
        found = await store.reread(
            bucket.fence, read.cursor, known={m.seq for m in read.messages}, limit=9, window_us=0, full=True
        )
        assert {m.key for m in [*read.messages, *found.messages]} == {one.key for one in jobs}
        await store.push(bucket.id, jobs)  # a repeat: the conflict ends a transaction, and the next one is whole
        await asyncio.gather(*(store.remove(bucket.fence, [message.seq]) for message in read.messages))
        assert await store.depths([bucket.id]) == {bucket.id: len(found.messages)}
        assert [found.id for found in await store.list_buckets()] == [bucket.id]


async def test_signals_and_sleep_flags_go_past_it(bouncer: PgBouncer, postgres_database: str) -> None:
    address = through(bouncer, postgres_database)
    async with opened(address) as owner, opened(address) as producer:
        bucket = await owned(owner)
        rung = asyncio.Event()
        owner.subscribe(f"bucket:{bucket.id}", rung.set)
        cursor = None
        for _ in range(20):
            async with asyncio.timeout(5):
                await rung.wait()
            rung.clear()
            read = await owner.read(bucket.fence, cursor, limit=9, window_us=0)
            cursor = read.cursor
            await producer.push(bucket.id, [job()])


async def test_the_settings_of_a_session_hold_in_each_transaction(bouncer: PgBouncer, postgres_database: str) -> None:
    async with opened(through(bouncer, postgres_database)) as store:
        assert await store._write(lambda tx: tx.value("SHOW enable_seqscan")) == "off"
        assert await store._write(lambda tx: tx.value("SHOW statement_timeout")) == "4500ms"
        assert await store._ask(lambda tx: tx.value("SHOW transaction_read_only")) == "on"


def test_the_error_of_a_bouncer_that_was_not_named_says_what_to_add() -> None:
    error = asyncpg.InvalidSQLStatementNameError.new({"C": "26000", "M": "prepared statement does not exist"})
    told = undone(error, parse_dsn("postgresql://me@127.0.0.1/shop", name="address"))
    assert isinstance(told, StoreUnavailable)
    assert "session_host" in str(told)
