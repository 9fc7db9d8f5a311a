"""Tables that change under a running program: what was prepared before is prepared again, and nobody hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from jobmaster.errors import StoreUnavailable
from jobmaster.model.bucket import NewBucket
from jobmaster.model.job import Outcome
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration, Renewal
from jobmaster.ports.master import ClaimRequest
from jobmaster.stores.sql.postgresql import handle
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.servers.databases import Databases
from tests.unit.postgres_place import new_job, opened

pytestmark = pytest.mark.backend("postgresql")

AT_ONCE = 6
"""As many as a store has connections."""

WIDER = """
SELECT format('ALTER TABLE %I ALTER COLUMN %I TYPE varchar(%s)', c.table_name, c.column_name,
    c.character_maximum_length + 10)
FROM information_schema.columns c JOIN pg_class t ON t.oid = c.table_name::regclass AND NOT t.relispartition
WHERE c.table_schema = 'public' AND c.data_type = 'character varying'
"""
"""Every text of every table: the row of each statement that answers one has another type from then on."""


@pytest.fixture
def address(postgres_databases: Databases) -> Iterator[str]:
    dsn = postgres_databases.blank()
    yield dsn
    postgres_databases.remove(dsn)


def widen(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        statements = [statement for (statement,) in connection.execute(WIDER).fetchall()]
        assert len(statements) > 20
        for statement in statements:
            connection.execute(statement)


class Worker:
    """Uses every verb of the hot path, and the questions of people."""

    def __init__(self, store: PostgresStore, name: str) -> None:
        self._store, self._name = store, name
        self._number = 0

    async def begin(self) -> None:
        lanes = (self._name,)
        self._id = (await self._store.register(Registration(self._name, 1, "here", lanes, WorkerMode.FULL))).worker
        (self._bucket,) = await self._store.create_buckets(
            self._id, [NewBucket(f"t-{self._name}", "here", self._name, 3)]
        )
        await self._store.fence(self._bucket.fence)

    async def work(self) -> None:
        store, bucket = self._store, self._bucket
        self._number += 1
        await store.renew([Renewal(worker=self._id, number=self._number, stats=b"{}")])
        await store.push(bucket.id, [job := new_job(lane=self._name)])
        await store.hold([new_job(lane=self._name)])
        read = await store.read(bucket.fence, None, limit=100, window_us=0)
        claimed = await store.claim([ClaimRequest(bucket.fence, self._name, 3, 10)], window_us=0)
        assert [message.key for message in read.messages] == [job.key]
        assert len(claimed.jobs) == 1
        common = {"envelope": job.envelope, "status": JobStatus.SUCCEEDED, "attempt": 1, "finished_us": read.now_us}
        outcomes = [
            Outcome(key=one.key, gen=one.gen, payload=one.payload, due_us=one.due_us, seq=seq, **common)
            for one, seq in [*((m, m.seq) for m in read.messages), *((j, None) for j in claimed.jobs)]
        ]
        assert all(one.done for one in await store.settle(bucket.fence, outcomes))
        await store.sweep(overdue_us=10**9, limit=10)
        assert await store.get_job(job.key) is not None
        await store.list_workers()
        await store.list_buckets()


def test_nobody_hears_of_tables_that_change_under_prepared_statements(address: str) -> None:
    async def scenario() -> None:
        async with opened(address) as store:
            workers = [Worker(store, f"w{number}") for number in range(AT_ONCE)]
            for worker in workers:
                await worker.begin()
            for change in (False, True, True):
                if change:
                    await asyncio.to_thread(widen, address)
                for _ in range(2):  # together, so that each connection runs each statement
                    await asyncio.gather(*(worker.work() for worker in workers))

    asyncio.run(scenario())


def test_without_a_repetition_somebody_would(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above is worth."""
    monkeypatch.setattr(handle, "STALE", ())

    async def scenario() -> None:
        async with opened(address) as store:
            worker = Worker(store, "w")
            await worker.begin()
            await worker.work()
            await asyncio.to_thread(widen, address)
            with pytest.raises(StoreUnavailable, match="cached statement plan is invalid"):
                await worker.work()

    asyncio.run(scenario())
