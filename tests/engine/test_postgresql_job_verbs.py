"""What callers of PostgreSQL's job verbs may believe, where a verb takes two steps or comes in two forms."""

from __future__ import annotations

from typing import Any
from unittest import mock

import asyncpg
import pytest

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, Outcome, Start, encode_envelope
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql import finish, known_rows, outcomes, start, take_over
from jobmaster.stores.sql.postgresql.known_rows import KnownRows
from jobmaster.stores.sql.postgresql.store import PostgresStore

NOW = 1_790_000_000_000_000
ENVELOPE = Envelope("task", b"", NOW, NOW)


def _outcome(status: JobStatus = JobStatus.SUCCEEDED, *, seq: int | None = 1) -> Outcome:
    return Outcome(new_job_key(), 0, ENVELOPE, b"", NOW, status, 1, seq=seq, finished_us=NOW)


def _start(*, seq: int | None = 1) -> Start:
    return Start(new_job_key(), 0, 7, ENVELOPE, b"", NOW, seq=seq, started_us=NOW)


async def _opened(dsn: str) -> tuple[PostgresStore, Bucket]:
    store = await PostgresStore.open(dsn, rules=MasterRules())
    worker = (await store.register(Registration("w", 1, "here", ("",), WorkerMode.FULL))).worker
    (bucket,) = await store.create_buckets(worker, [NewBucket("t", "here", "", 3)])
    return store, bucket


async def _fails(*_: Any, **__: Any) -> Any:
    raise asyncpg.TooManyConnectionsError("none left")


async def test_of_two_steps_the_second_never_says_that_nothing_was_stored(postgres_database: str) -> None:
    store, bucket = await _opened(postgres_database)
    ended, again = _outcome(), _outcome(JobStatus.HELD_ON_MASTER)
    begun, claimed = _start(), _start(seq=None)
    try:
        with mock.patch.object(outcomes, "finish", _fails), mock.patch.object(start, "start", _fails):
            with pytest.raises(OutcomeUnknown):
                await store.settle(bucket.fence, [again, ended])
            with pytest.raises(OutcomeUnknown):
                await store.take_over(bucket.fence, [claimed, begun])
            for verb in (store.settle(bucket.fence, [again]), store.take_over(bucket.fence, [claimed])):
                with pytest.raises(StoreUnavailable) as failed:
                    await verb
                assert not isinstance(failed.value, OutcomeUnknown)
        states = await store.look_up([ended.key, again.key, begun.key, claimed.key])
        assert [state and state.status for state in states] == [
            JobStatus.SUCCEEDED, None, JobStatus.PROCESSING, None,
        ]  # fmt: skip
        assert [one.done for one in await store.settle(bucket.fence, [again, ended])] == [True, True]
    finally:
        await store.close_store()


async def test_jobs_that_are_started_and_ended_in_turn_are_not_remembered(postgres_database: str) -> None:
    store, bucket = await _opened(postgres_database)
    jobs = [NewJob(new_job_key(), ENVELOPE, encode_envelope(ENVELOPE)) for _ in range(5)]
    try:
        await store.fence(bucket.fence)
        await store.push(bucket.id, jobs)
        messages = (await store.read(bucket.fence, None, limit=9, window_us=0)).messages
        starts = [Start(one.key, 0, 7, ENVELOPE, one.payload, NOW, seq=one.seq, started_us=NOW) for one in messages]
        await store.take_over(bucket.fence, starts)
        ended = [
            Outcome(one.key, 0, ENVELOPE, one.payload, NOW, JobStatus.SUCCEEDED, 1, seq=one.seq, finished_us=NOW)
            for one in messages
        ]
        assert not store._known_rows.has_none(ended[:1])
        await store.settle(bucket.fence, ended[:3])
        await store.set_free(bucket.fence, ended[3:], ended=True)
        assert [verdict.yes for verdict in await store.take_over(bucket.fence, starts)] == [False] * 5
        assert store._known_rows.has_none(ended)
    finally:
        await store.close_store()


def test_a_job_without_a_message_has_a_row() -> None:
    known = KnownRows()
    assert known.has_none([_outcome()])
    assert not known.has_none([_outcome(), _outcome(seq=None)])


def test_rows_that_end_elsewhere_fill_no_memory() -> None:
    known = KnownRows()
    with mock.patch.object(known_rows, "MOST", 3):
        for _ in range(5):
            known.made([_start(), _start()])
            assert 2 <= len(known._keys) <= 4


def test_rows_are_written_in_the_order_of_their_keys() -> None:
    setting = mock.Mock(clock_us=lambda: NOW)
    fence = mock.Mock(bucket=1, epoch=1, owner=1)
    ended, begun = [_outcome() for _ in range(9)], [_start() for _ in range(9)]
    values = finish.batch(setting, fence, ended[::-1], removing=True).values
    assert sorted(one.key for one in ended) in values
    _, values = take_over.values(setting, fence, begun[::-1], removing=True)
    assert sorted(one.key for one in begun) in values
