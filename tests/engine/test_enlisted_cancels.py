"""A job in somebody's open transaction, cancelled before that commits: the cancel sees no row, and still counts."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import ClaimedJob, Envelope, NewJob, Start, encode_envelope
from jobmaster.model.states import CancelOutcome, JobStatus, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import ClaimRequest, MasterRules
from jobmaster.stores.sql.enlisting import insert_held, values_of
from jobmaster.stores.sql.postgresql.store import PostgresStore
from jobmaster.stores.sql.sqlite.store import SqliteStore


def _job() -> NewJob:
    envelope = Envelope("task", b"", time.time_ns() // 1_000, time.time_ns() // 1_000)
    return NewJob(new_job_key(), envelope, encode_envelope(envelope), None, 0)


async def _is_cancelled_when_claimed(store: Any, cancelled: NewJob, usual: NewJob) -> None:
    """The cancelled one is asked about before it starts, and ends there; the other starts just so."""
    worker = (await store.register(Registration("w", 1, "here", ("",), WorkerMode.FULL))).worker
    (bucket,) = await store.create_buckets(worker, [NewBucket("t", "here", "", 3)])
    claimed = await store.claim([ClaimRequest(bucket.fence, "", 3, 9)], window_us=0)
    taken: dict[bytes, ClaimedJob] = {job.key: job for job in claimed.jobs}
    assert {key: job.suspect for key, job in taken.items()} == {cancelled.key: True, usual.key: False}
    start = Start(cancelled.key, taken[cancelled.key].gen, 7, cancelled.envelope, cancelled.payload, 0, started_us=1)
    assert [verdict.yes for verdict in await store.take_over(bucket.fence, [start])] == [False]
    states = await store.look_up([cancelled.key, usual.key])
    assert [state.status for state in states] == [JobStatus.CANCELLED, JobStatus.QUEUED]


@pytest.mark.backend("postgresql")
async def test_a_job_cancelled_before_its_commit_asks_before_it_starts(postgres_database: str) -> None:
    store = await PostgresStore.open(postgres_database, rules=MasterRules())
    cancelled, usual = _job(), _job()
    statement = insert_held("postgresql", lambda name, kind: f"%({name})s::{kind}")
    try:
        with psycopg.connect(postgres_database) as theirs:
            for job in (cancelled, usual):
                theirs.execute(statement.encode(), values_of(job, "postgresql"))
            assert (await store.cancel(cancelled.key)).outcome is CancelOutcome.REQUESTED
        await _is_cancelled_when_claimed(store, cancelled, usual)
    finally:
        await store.close_store()


async def test_on_sqlite_as_well(tmp_path: Path) -> None:
    store = await SqliteStore.open(str(tmp_path / "jobs.db"), rules=MasterRules())
    cancelled, usual = _job(), _job()
    statement = insert_held("sqlite", lambda name, _: f":{name}")
    try:
        assert (await store.cancel(cancelled.key)).outcome is CancelOutcome.REQUESTED
        with sqlite3.connect(tmp_path / "jobs.db") as theirs:
            for job in (cancelled, usual):
                theirs.execute(statement, values_of(job, "sqlite"))
        theirs.close()
        await _is_cancelled_when_claimed(store, cancelled, usual)
    finally:
        await store.close_store()
