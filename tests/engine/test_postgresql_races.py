"""Races between connections to one PostgreSQL: late commits, sleep flags, closes beside pushes, sessions that break."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
import pytest

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.agent import Cursor, Read
from jobmaster.ports.answers import Refused
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql import accept, late_commits
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.servers.launcher import ServerError
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.backend("postgresql")


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
    async with asyncio.timeout(5):
        while await flags_up(connection) != number or not owner.asleep:
            await asyncio.sleep(0.005)


# -- late commits


async def test_a_message_that_commits_after_a_later_one_was_read_is_found_below_the_cursor(
    postgres_database: str,
) -> None:
    async with opened(postgres_database) as store, SlowProducer(postgres_database) as slow:
        bucket, late, early = await owned(store), job(), job()
        await slow.insert(bucket, late)
        await store.push(bucket.id, [early])
        read = await store.read(bucket.fence, None, limit=9, window_us=0)
        assert [message.key for message in read.messages] == [early.key]
        assert read.unsettled
        known = {message.seq for message in read.messages}
        look = await store.reread(bucket.fence, read.cursor, known=known, limit=9, window_us=0)
        assert (look.messages, look.unsettled) == ([], True)
        await slow.commit()
        look = await store.reread(bucket.fence, read.cursor, known=known, limit=9, window_us=0)
        assert [message.key for message in look.messages] == [late.key]
        assert not look.unsettled


async def test_a_late_message_of_the_youngest_transaction_is_expected_too(postgres_database: str) -> None:
    """No transaction above it has ended, so that the snapshot of a read does not even name it."""
    async with (
        opened(postgres_database) as store,
        SlowProducer(postgres_database) as older,
        SlowProducer(postgres_database) as younger,
    ):
        bucket, late, early = await owned(store), job(), job()
        await older.hold_bucket(bucket)
        await younger.insert(bucket, late)
        await older.insert(bucket, early)
        await older.commit()
        read = await store.read(bucket.fence, None, limit=9, window_us=0)
        assert [message.key for message in read.messages] == [early.key]
        assert read.unsettled
        known = {message.seq for message in read.messages}
        await younger.commit()
        look = await store.reread(bucket.fence, read.cursor, known=known, limit=9, window_us=0)
        assert [message.key for message in look.messages] == [late.key]
        assert not look.unsettled


async def test_a_late_message_that_fell_due_meanwhile_is_found(postgres_database: str) -> None:
    async with opened(postgres_database) as store, SlowProducer(postgres_database) as slow:
        bucket = await owned(store)
        late = job(delay_us=1_000_000)
        await slow.insert(bucket, late)
        await store.push(bucket.id, [job()])
        read = await store.read(bucket.fence, None, limit=9, window_us=10_000_000)
        known = {message.seq for message in read.messages}
        await slow.commit()
        again = await store.read(bucket.fence, read.cursor, limit=9, window_us=10_000_000)
        look = await store.reread(bucket.fence, again.cursor, known=known, limit=9, window_us=10_000_000)
        assert [message.key for message in [*again.messages, *look.messages]] == [late.key]


async def test_many_producers_that_commit_out_of_order_lose_nothing(postgres_database: str) -> None:
    rounds, producers = 15, 4
    late = 0

    async def produce(bucket: Bucket, seed: int) -> list[JobKey]:
        chance, keys = random.Random(seed), []
        # On a busy machine it takes more rounds until a look falls between an insert and its commit.
        while len(keys) < rounds or (not late and len(keys) < 20 * rounds):
            async with SlowProducer(postgres_database) as slow:
                new = job()
                await slow.insert(bucket, new)
                await asyncio.sleep(chance.random() * 0.02)
                await slow.commit()
                keys.append(new.key)
        return keys

    async with opened(postgres_database) as store:
        bucket = await owned(store)
        owner = Owner(store, bucket)
        producing = asyncio.gather(*(produce(bucket, seed) for seed in range(producers)))
        unsettled = False
        while not producing.done() or unsettled:
            over = producing.done()
            read = await store.read(bucket.fence, owner.cursor, limit=99, window_us=0)
            owner.cursor = read.cursor
            owner.found |= {message.key: message.seq for message in read.messages}
            look = await store.reread(
                bucket.fence, owner.cursor, known=set(owner.found.values()), limit=99, window_us=0
            )
            late += len(look.messages)
            owner.found |= {message.key: message.seq for message in look.messages}
            unsettled = look.unsettled or not over
        expected = {key for keys in await producing for key in keys}
        assert set(owner.found) == expected
        assert late


async def test_a_transaction_held_open_by_somebody_does_not_keep_reads_unsettled_for_ever(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_commits, "SETTLED_AFTER", 0.2)
    monkeypatch.setattr(late_commits, "DEEP_EVERY", 0.05)
    async with connected(postgres_database) as other, opened(postgres_database) as store:
        bucket = await owned(store)
        await other.execute("BEGIN; SELECT pg_current_xact_id()")
        await store.push(bucket.id, [job()])
        read = await store.read(bucket.fence, None, limit=9, window_us=0)
        assert len(read.messages) == 1
        assert read.unsettled
        known = {message.seq for message in read.messages}
        looks = 0
        async with asyncio.timeout(5):
            while True:
                looks += 1
                look = await store.reread(bucket.fence, read.cursor, known=known, limit=9, window_us=0)
                assert look.messages == []
                if not look.unsettled:
                    break
                await asyncio.sleep(0.02)
        assert looks > 3


# -- closes beside pushes


async def test_a_close_sees_the_push_that_it_waited_for(postgres_database: str) -> None:
    async with opened(postgres_database) as store, SlowProducer(postgres_database) as slow:
        bucket = await owned(store)
        await slow.insert(bucket, job())
        closing = asyncio.create_task(store.close(bucket.fence))
        pushing = asyncio.create_task(store.push(bucket.id, [job()]))  # behind the close, before its answer
        await blocked(slow.connection)
        await slow.commit()
        assert await closing is False
        await pushing
        assert await store.depths([bucket.id]) == {bucket.id: 2}


async def test_pushes_beside_closes_and_fences_are_stored_or_refused(postgres_database: str) -> None:
    async with opened(postgres_database) as store, opened(postgres_database) as producer:
        bucket = await owned(store)
        stored = 0
        for _ in range(30):
            jobs = [job() for _ in range(4)]
            told = await asyncio.gather(
                *(producer.push(bucket.id, [new]) for new in jobs), store.close(bucket.fence), return_exceptions=True
            )
            *pushed, closed = told
            taken = sum(answer is None for answer in pushed)
            assert all(answer is None or isinstance(answer, Refused) for answer in pushed)
            stored += taken
            read = await store.read(bucket.fence, None, limit=99, window_us=0)
            assert len(read.messages) == taken
            # Whoever says that the bucket is closed has seen it empty, and nothing came after.
            assert closed is False or not taken
            await store.remove(bucket.fence, [message.seq for message in read.messages])
            await store.fence(bucket.fence)
        assert stored


async def blocked(connection: asyncpg.Connection[Any]) -> None:
    """Until somebody waits for a lock of this connection's transaction."""
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE {await connection.fetchval('SELECT pg_backend_pid()')}"
    async with asyncio.timeout(5):
        while not await connection.fetchval(waiting + " = ANY(pg_blocking_pids(pid))"):
            await asyncio.sleep(0.005)


# -- sleep flags


async def test_no_wake_up_is_lost_while_the_owner_goes_to_sleep_again_and_again(postgres_database: str) -> None:
    chance = random.Random(3)
    async with (
        opened(postgres_database) as store,
        opened(postgres_database) as producer,
        running(Owner(store, await owned(store))) as owner,
    ):
        for _ in range(150):
            new = job()
            await producer.push(owner.bucket.id, [new])
            await owner.until(lambda new=new: new.key in owner.found)  # type: ignore[misc]
            await asyncio.sleep(chance.random() * 0.02)


async def test_a_push_between_the_last_read_and_the_flag_is_found_by_the_read_after_it(postgres_database: str) -> None:
    async with opened(postgres_database) as store, opened(postgres_database) as producer:
        gate, session = asyncio.Event(), store._session
        raising = session._follow_flags

        async def late(connection: asyncpg.Connection[Any]) -> None:
            await gate.wait()
            await raising(connection)

        session._follow_flags = late  # type: ignore[method-assign]
        async with running(Owner(store, await owned(store))) as owner:
            async with asyncio.timeout(5):
                while not session.sleepers.to_raise():
                    await asyncio.sleep(0.001)
            reads = owner.reads
            new = job()
            await producer.push(owner.bucket.id, [new])  # the flag is down: nobody is notified
            assert owner.reads == reads
            gate.set()
            await owner.until(lambda: new.key in owner.found, 1.0)


async def test_a_push_that_saw_nobody_asleep_is_found_without_a_notification(postgres_database: str) -> None:
    async with opened(postgres_database) as store, SlowProducer(postgres_database) as slow:
        owner = Owner(store, await owned(store))
        new = job()
        await slow.insert(owner.bucket, new)  # nobody listens yet, so that this push notifies nobody
        async with running(owner):
            async with asyncio.timeout(5):
                while owner.reads < 3:  # the flag cannot go up while the push has not decided
                    await asyncio.sleep(0.005)
            assert await flags_up(slow.connection) == 0
            await slow.commit()
            await owner.until(lambda: new.key in owner.found)
            await asleep(slow.connection, owner)


async def test_a_sleeping_owner_costs_no_statement_and_wakes_at_once(postgres_database: str) -> None:
    async with (
        connected(postgres_database) as watcher,
        opened(postgres_database) as store,
        opened(postgres_database) as producer,
        running(Owner(store, await owned(store))) as owner,
    ):
        await asleep(watcher, owner)
        before = await last_statements(watcher)
        reads = owner.reads
        await asyncio.sleep(0.6)  # long enough for any timer of the flags
        assert await last_statements(watcher) == before
        assert owner.reads == reads
        new = job()
        await producer.push(owner.bucket.id, [new])
        await owner.until(lambda: new.key in owner.found, 1.0)


async def last_statements(watcher: asyncpg.Connection[Any]) -> list[Any]:
    found: list[Any] = await watcher.fetch(
        "SELECT pid, state_change FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' ORDER BY pid"
    )
    return found


async def test_under_load_hardly_anybody_notifies_and_afterwards_the_owner_sleeps(postgres_database: str) -> None:
    heard = 0

    def count(*_: object) -> None:
        nonlocal heard
        heard += 1

    async with (
        connected(postgres_database) as watcher,
        opened(postgres_database) as store,
        opened(postgres_database) as producer,
        running(Owner(store, await owned(store))) as owner,
    ):
        await asleep(watcher, owner)
        await watcher.add_listener(f"jm:bucket:{owner.bucket.id}", count)
        jobs = [job() for _ in range(1_500)]

        async def produce(part: list[NewJob]) -> None:
            for new in part:
                await producer.push(owner.bucket.id, [new])

        await asyncio.gather(*(produce(jobs[number::5]) for number in range(5)))
        await owner.until(lambda: len(owner.found) == len(jobs))
        await asleep(watcher, owner)
    assert 0 < heard < len(jobs) / 4


async def test_two_listeners_of_one_bucket_both_wake(postgres_database: str) -> None:
    """An owner that was replaced and does not know it yet has the flag; its heir must not miss anything."""
    async with (
        opened(postgres_database) as first,
        opened(postgres_database) as second,
        opened(postgres_database) as producer,
    ):
        bucket = await owned(first)
        async with running(Owner(first, bucket)) as old, running(Owner(second, bucket)) as heir:
            for _ in range(10):
                new = job()
                await producer.push(bucket.id, [new])
                await old.until(lambda new=new: new.key in old.found)  # type: ignore[misc]
                await heir.until(lambda new=new: new.key in heir.found)  # type: ignore[misc]


# -- sessions that break


async def test_a_listening_session_that_is_killed_is_replaced(postgres_database: str) -> None:
    async with (
        connected(postgres_database) as watcher,
        opened(postgres_database) as store,
        opened(postgres_database) as producer,
        running(Owner(store, await owned(store))) as owner,
    ):
        for _ in range(3):
            await asleep(watcher, owner)
            assert await watcher.fetchval(
                f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE classid = {accept.SLEEPERS}"
                " AND mode = 'ExclusiveLock'"
            )
            new = job()
            await producer.push(owner.bucket.id, [new])
            await owner.until(lambda new=new: new.key in owner.found)  # type: ignore[misc]
        await asleep(watcher, owner)


async def test_without_a_session_for_signals_the_owner_is_told_to_look_by_itself(postgres_database: str) -> None:
    nowhere = f"{postgres_database}?session_host=127.0.0.1&session_port=1"
    async with (
        opened(nowhere) as store,
        opened(postgres_database) as producer,
        running(Owner(store, await owned(store))) as owner,
    ):
        owner.rung.set()  # an engine's first read needs no signal
        for _ in range(3):
            new = job()
            await producer.push(owner.bucket.id, [new])
            await owner.until(lambda new=new: new.key in owner.found, 2.0)  # type: ignore[misc]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    try:
        launched = PostgresServer(durable=True).start()
    except ServerError as error:
        pytest.skip(str(error))
    with launched:
        yield launched


@pytest.mark.slow
async def test_a_server_that_was_killed_and_came_back_is_used_again(server: PostgresServer) -> None:
    address = server.create_database("shop")
    async with (
        opened(address) as store,
        opened(address) as producer,
        running(Owner(store, await owned(store))) as owner,
    ):
        first = job()
        await producer.push(owner.bucket.id, [first])
        await owner.until(lambda: first.key in owner.found)
        await asyncio.to_thread(server.restart, kill=True)
        new = job(verify=True)
        async with asyncio.timeout(10):
            while True:
                try:
                    await producer.push(owner.bucket.id, [new])
                    break
                except (StoreUnavailable, OutcomeUnknown):
                    await asyncio.sleep(0.01)
        await owner.until(lambda: new.key in owner.found)
        assert await store.depths([owner.bucket.id]) == {owner.bucket.id: 2}
