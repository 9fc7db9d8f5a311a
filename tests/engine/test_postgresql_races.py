"""Races between connections to one PostgreSQL: commits that come late, closes beside pushes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.ports.answers import Refused
from jobmaster.stores.sql.postgresql import late_commits
from tests.engine.postgresql_at_work import Owner, SlowProducer, connected, job, opened, owned

pytestmark = pytest.mark.backend("postgresql")


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
    async with asyncio.timeout(20):
        while not await connection.fetchval(waiting + " = ANY(pg_blocking_pids(pid))"):
            await asyncio.sleep(0.005)
