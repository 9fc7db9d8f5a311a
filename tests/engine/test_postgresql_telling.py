"""Clients on PostgreSQL are notified of the ends of their jobs while they listen, and not otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from jobmaster.model.bucket import NewBucket
from jobmaster.model.job import Outcome
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.stores.sql.postgresql.transaction import channel_of
from tests.unit.postgres_place import new_job, opened

pytestmark = pytest.mark.backend("postgresql")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_only_a_client_that_listens_is_told(postgres_database: str) -> None:
    async def scenario() -> None:
        heard: list[str] = []
        other = await asyncpg.connect(postgres_database)
        # Not a client: it hears what is sent, and takes no lock.
        await other.add_listener(channel_of("client:c"), lambda *_: heard.append("sent"))
        async with opened(postgres_database) as store:
            registration = Registration("w", 1, "here", ("",), WorkerMode.FULL)
            worker = (await store.register(registration)).worker
            (bucket,) = await store.create_buckets(worker, [NewBucket("t", "here", "", 3)])

            async def end_a_job() -> None:
                job = new_job(reply_to="c")
                outcome = Outcome(
                    job.key, 0, job.envelope, job.payload, 1, JobStatus.SUCCEEDED, 1, started_us=1, finished_us=2
                )
                assert (await store.settle(bucket.fence, [outcome]))[0].done

            await end_a_job()
            told = 0

            def ring() -> None:
                nonlocal told
                told += 1

            hint = store.subscribe("client:c", ring)
            await until(lambda: told == 1)  # rung once when it has begun to listen
            assert heard == []
            await end_a_job()
            await until(lambda: told == 2)
            await until(lambda: heard == ["sent"])

            hint.close()
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid BETWEEN 1784600 AND 1784700"
            async with asyncio.timeout(10):
                while await other.fetchval(locks):
                    await asyncio.sleep(0.001)
            await end_a_job()
            await other.execute("SELECT pg_notify($1, '')", channel_of("client:c"))
            await until(lambda: len(heard) == 2)
            assert told == 2
        await other.close()

    asyncio.run(scenario())
