"""Sleep flags of owners on one PostgreSQL: who sleeps costs nothing, is woken, and outlives its session."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.job import NewJob
from jobmaster.stores.sql.postgresql import accept, sleepers
from tests.engine.postgresql_at_work import (
    Owner,
    SlowProducer,
    asleep,
    connected,
    flags_up,
    job,
    opened,
    owned,
    running,
)
from tests.servers.launcher import ServerError
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.backend("postgresql")


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
            async with asyncio.timeout(20):
                while not session.sleepers.to_raise():
                    await asyncio.sleep(0.001)
            reads = owner.reads
            new = job()
            await producer.push(owner.bucket.id, [new])  # the flag is down: nobody is notified
            assert owner.reads == reads
            gate.set()
            await owner.until(lambda: new.key in owner.found, 4.0)


async def test_a_push_that_saw_nobody_asleep_is_found_without_a_notification(postgres_database: str) -> None:
    async with opened(postgres_database) as store, SlowProducer(postgres_database) as slow:
        owner = Owner(store, await owned(store))
        new = job()
        await slow.insert(owner.bucket, new)  # nobody listens yet, so that this push notifies nobody
        async with running(owner):
            async with asyncio.timeout(20):
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
        await owner.until(lambda: new.key in owner.found, 4.0)


async def last_statements(watcher: asyncpg.Connection[Any]) -> list[Any]:
    found: list[Any] = await watcher.fetch(
        "SELECT pid, state_change FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' ORDER BY pid"
    )
    return found


async def test_under_load_hardly_anybody_notifies_and_afterwards_the_owner_sleeps(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is load here, is load on a busy machine, too.
    monkeypatch.setattr(sleepers, "BURST_GAP", 1.0)
    monkeypatch.setattr(sleepers, "LONGEST_PAUSE", 0.25)
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
            await owner.until(lambda new=new: new.key in owner.found)  # type: ignore[misc]


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
        async with asyncio.timeout(30):
            while True:
                try:
                    await producer.push(owner.bucket.id, [new])
                    break
                except (StoreUnavailable, OutcomeUnknown):
                    await asyncio.sleep(0.01)
        await owner.until(lambda: new.key in owner.found)
        assert await store.depths([owner.bucket.id]) == {owner.bucket.id: 2}
