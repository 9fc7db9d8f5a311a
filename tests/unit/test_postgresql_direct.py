"""Pushes from threads on PostgreSQL: the same meaning as `push`, whoever sends them, and whatever breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import psycopg
import pytest

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.bucket import NewBucket
from jobmaster.model.job import NewJob
from jobmaster.ports.answers import Refused
from jobmaster.stores.sql.postgresql.store import ThreadedPostgresStore
from tests.servers.fault_proxy import AFTER, FaultProxy
from tests.unit.postgres_place import new_job, opened

pytestmark = pytest.mark.backend("postgresql")

ROWS = """
SELECT job_id, bucket, gen, later, verify, at_most_once, task, custom_id, created_us, payload FROM jm_message
ORDER BY seq
"""


class Given:
    """Jobs that a thread hands over (ports.direct.Handed)."""

    def __init__(self, bucket: int, jobs: Sequence[NewJob]) -> None:
        self.bucket = bucket
        self.jobs = jobs
        self.answers: list[Exception | None] = []
        self.told = threading.Event()

    def answered(self, error: Exception | None) -> None:
        self.answers.append(error)
        self.told.set()


async def a_bucket(store: ThreadedPostgresStore) -> int:
    return (await store.offer_bucket(NewBucket("token", "here", "", 3))).id


def rows(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(ROWS).fetchall()


async def handed(store: ThreadedPostgresStore, bucket: int, jobs: Sequence[NewJob]) -> Exception | None:
    given = Given(bucket, jobs)
    await asyncio.to_thread(store.hand, given)
    assert await asyncio.to_thread(given.told.wait, 10)
    assert len(given.answers) == 1
    return given.answers[0]


KINDS = {
    "plain": {},
    "delayed": {"delay_us": 60_000_000},
    "marked": {"verify": True},
    "at a moment": {"due_us": 5},
}


@pytest.mark.parametrize("many", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_stores_what_the_loop_stores(postgres_database: str, kind: str, many: int) -> None:
    async def scenario() -> None:
        async with opened(postgres_database) as store:
            bucket = await a_bucket(store)
            jobs = [changed(new_job(task=f"t{n}", custom_id=None if n else "ä"), KINDS[kind]) for n in range(many)]
            assert await handed(store, bucket, jobs) is None
            found = rows(postgres_database)
            with psycopg.connect(postgres_database) as connection:
                connection.execute("DELETE FROM jm_message")
            await store.push(bucket, jobs)
            assert rows(postgres_database) == found
            assert len(found) == many

    asyncio.run(scenario())


def changed(job: NewJob, changes: dict[str, int | bool]) -> NewJob:
    return NewJob(key=job.key, envelope=job.envelope, payload=job.payload, **changes)


def test_a_repeated_push_stores_one_message_and_a_closed_bucket_refuses(postgres_database: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_database) as store:
            bucket = await a_bucket(store)
            job = new_job()
            assert [await handed(store, bucket, [job]) for _ in range(2)] == [None, None]
            assert await handed(store, bucket, [job, new_job(), job]) is None
            assert len(rows(postgres_database)) == 2
            assert isinstance(await handed(store, bucket + 1, [new_job()]), Refused)

    asyncio.run(scenario())


def test_many_threads_share_commits_and_each_gets_its_answer(postgres_database: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_database) as store:
            bucket = await a_bucket(store)

            def caller() -> None:
                for _ in range(40):
                    given = Given(bucket, [new_job()])
                    store.hand(given)
                    assert given.told.wait(10)
                    assert given.answers == [None]

            await asyncio.gather(*(asyncio.to_thread(caller) for _ in range(12)))
            assert len(rows(postgres_database)) == 480
            with psycopg.connect(postgres_database) as connection:
                commits = connection.execute("SELECT count(DISTINCT xmin::text) FROM jm_message").fetchone()
            assert commits is not None
            assert commits[0] < 480

    asyncio.run(scenario())


def test_a_cut_connection_leaves_the_answer_open_and_the_next_call_has_a_new_one(postgres_database: str) -> None:
    async def scenario() -> None:
        with FaultProxy(postgres_database) as proxy:
            async with opened(proxy.dsn(postgres_database)) as store:
                bucket = await a_bucket(store)
                assert await handed(store, bucket, [new_job()]) is None
                proxy.cut_next(AFTER, matching="INSERT INTO jm_message")
                assert isinstance(await handed(store, bucket, [new_job()]), OutcomeUnknown)
                assert len(rows(postgres_database)) == 2
                assert await handed(store, bucket, [new_job()]) is None

    asyncio.run(scenario())


def test_a_server_that_stands_still_holds_no_caller_for_longer_than_its_time(postgres_database: str) -> None:
    async def scenario() -> None:
        with FaultProxy(postgres_database) as proxy:
            async with opened(proxy.dsn(postgres_database), timeout=0.5) as store:
                bucket = await a_bucket(store)
                assert await handed(store, bucket, [new_job()]) is None
                proxy.stall()
                assert isinstance(await handed(store, bucket, [new_job()]), OutcomeUnknown)
                proxy.resume()
                assert await handed(store, bucket, [new_job()]) is None

    asyncio.run(scenario())


def test_an_interrupted_caller_leaves_nobody_waiting(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with opened(postgres_database) as store:
            bucket = await a_bucket(store)
            assert await handed(store, bucket, [new_job()]) is None
            while not store._direct._asleep:
                await asyncio.sleep(0.001)
            given = Given(bucket, [new_job()])
            with monkeypatch.context() as patched:
                patched.setattr(store._direct, "_execute", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    store.hand(given)
            assert isinstance(given.answers[0], OutcomeUnknown)
            assert await handed(store, bucket, [new_job()]) is None

    asyncio.run(scenario())


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_where_no_connection_can_be_had_callers_go_the_ordinary_way_at_once(postgres_database: str) -> None:
    async def scenario() -> None:
        with FaultProxy(postgres_database) as proxy:
            async with opened(proxy.dsn(postgres_database)) as store:
                bucket = await a_bucket(store)
                proxy.refuse()
                assert isinstance(await handed(store, bucket, [new_job()]), StoreUnavailable)
                with pytest.raises(StoreUnavailable, match="takes no jobs from threads now"):
                    store.hand(Given(bucket, [new_job()]))
                proxy.accept()
                assert rows(postgres_database) == []

    asyncio.run(scenario())


def test_what_waits_when_the_store_is_closed_is_answered(postgres_database: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_database) as store:
            bucket = await a_bucket(store)
            blocker = await asyncio.to_thread(psycopg.connect, postgres_database)
            blocker.execute("SELECT 1 FROM jm_agent_bucket FOR UPDATE")
            first, second, third = (Given(bucket, [new_job()]) for _ in range(3))
            leading = asyncio.ensure_future(asyncio.to_thread(store.hand, first))
            while not store._direct.gate.locked():
                await asyncio.sleep(0.001)
            store.hand(second)
            store.hand(third)
            assert store.take_back(third)
            closing = asyncio.ensure_future(store.close_store())
            assert await asyncio.to_thread(second.told.wait, 5)
            assert isinstance(second.answers[0], StoreUnavailable)
            blocker.rollback()
            blocker.close()
            await leading
            await closing
            assert (first.answers, third.answers) == ([None], [])
            with pytest.raises(StoreUnavailable):
                store.hand(Given(bucket, [new_job()]))

    asyncio.run(scenario())


def test_who_comes_while_the_store_is_closed_opens_no_connection_any_more(postgres_database: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_database) as store:
            bucket = await a_bucket(store)
            assert await handed(store, bucket, [new_job()]) is None
            direct = store._direct
            await store.close_store()
            direct._closed, direct._asleep = False, True  # as a caller saw them who was slow between two lines
            with pytest.raises(StoreUnavailable):
                direct.hand(Given(bucket, [new_job()]))
            assert direct._connection is None
            assert len(rows(postgres_database)) == 1

    asyncio.run(scenario())
