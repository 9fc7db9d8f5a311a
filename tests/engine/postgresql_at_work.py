"""Owners, producers and onlookers of one PostgreSQL, each with a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg

from jobmaster.errors import StoreUnavailable
from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.agent import Cursor, Read
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql import accept
from jobmaster.stores.sql.postgresql.store import PostgresStore


@asynccontextmanager
async def opened(address: str, *, timeout: float = 5.0) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(address, rules=MasterRules(), timeout=timeout)
    try:
        yield store
    finally:
        await store.close_store()


async def owned(store: PostgresStore) -> Bucket:
    worker = (await store.register(Registration("w", 1, "here", ("",), WorkerMode.FULL))).worker
    (bucket,) = await store.create_buckets(worker, [NewBucket("t", "here", "", 3)])
    await store.fence(bucket.fence)
    return bucket


def job(**fields: Any) -> NewJob:
    envelope = Envelope("greet", b"[]", 1, 1)
    return NewJob(new_job_key(), envelope, encode_envelope(envelope), **fields)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A session beside the stores, to see what they do and to disturb them."""
    connection = await asyncpg.connect(address)
    try:
        yield connection
    finally:
        connection.terminate()
        await asyncio.sleep(0)  # its transport closes with the next turn of the loop


class SlowProducer:
    """A push whose transaction is held open between its statement and its commit."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __aenter__(self) -> Self:
        self.connection = await asyncpg.connect(self._address)
        await self.connection.set_type_codec("uuid", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")
        await self.connection.execute("BEGIN")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.connection.terminate()
        await asyncio.sleep(0)

    async def hold_bucket(self, bucket: Bucket) -> None:
        """What the push does first; its transaction has its number from here on."""
        await self.connection.execute(f"SELECT FROM jm_agent_bucket WHERE id = {bucket.id} FOR SHARE")

    async def insert(self, bucket: Bucket, new: NewJob) -> None:
        assert await self.connection.fetch(accept.FAST, *accept.values_of(bucket.id, [new], None))

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")


class Owner:
    """Reads a bucket whenever it is told to, as an engine does, and never by itself."""

    def __init__(self, store: PostgresStore, bucket: Bucket) -> None:
        self.store, self.bucket = store, bucket
        self.cursor: Cursor | None = None
        self.found: dict[bytes, int] = {}
        self.reads = 0
        self.idle = False
        self.rung = asyncio.Event()
        self.news = asyncio.Event()

    async def run(self) -> None:
        subscription = self.store.subscribe(f"bucket:{self.bucket.id}", self.rung.set)
        try:
            while True:
                self.idle = True
                await self.rung.wait()
                self.rung.clear()
                self.idle = False
                try:
                    while (await self.read()).more:
                        pass
                except StoreUnavailable:
                    await asyncio.sleep(0.02)
                    self.rung.set()
        finally:
            subscription.close()

    async def read(self) -> Read:
        self.reads += 1
        read = await self.store.read(self.bucket.fence, self.cursor, limit=200, window_us=0)
        self.cursor = read.cursor
        messages = list(read.messages)
        if read.unsettled:
            known = frozenset(self.found.values())
            messages += (
                await self.store.reread(self.bucket.fence, self.cursor, known=known, limit=200, window_us=0)
            ).messages
        self.found |= {message.key: message.seq for message in messages}
        if messages:
            self.news.set()
        return read

    @property
    def asleep(self) -> bool:
        """Its flag is up, and what it was told to read then is read."""
        return self.idle and not self.rung.is_set() and self.store._session.sleepers._sleepers[self.bucket.id].raised

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def running(owner: Owner) -> AsyncIterator[Owner]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(owner.run())
        yield owner
        task.cancel()


async def flags_up(connection: asyncpg.Connection[Any]) -> int:
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()"
        f" WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' AND classid = {accept.SLEEPERS}"
    )
    return found


async def asleep(connection: asyncpg.Connection[Any], owner: Owner, *, number: int = 1) -> None:
    """Until so many flags are up, and the read after that is done."""
    async with asyncio.timeout(20):
        while await flags_up(connection) != number or not owner.asleep:
            await asyncio.sleep(0.005)
