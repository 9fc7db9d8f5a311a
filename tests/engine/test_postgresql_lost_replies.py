"""A verb whose answer was lost is repeated, and finds what it did; one whose words were lost has done nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from jobmaster.errors import OutcomeUnknown
from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, ErrorInfo, Message, NewJob, Outcome, Start, encode_envelope
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import ClaimRequest, MasterRules
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.servers.fault_proxy import AFTER, BEFORE, FaultProxy

ENVELOPE = Envelope("task", b"", 1, 1, at_most_once=True)
KINDS = [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.HELD_ON_MASTER]

MOMENTS = pytest.mark.parametrize("moment", [BEFORE, AFTER])


class Cut(NamedTuple):
    """A store behind a proxy, a bucket, three of its messages, and the same database without the proxy."""

    proxy: FaultProxy
    store: PostgresStore
    direct: PostgresStore
    bucket: Bucket
    messages: list[Message]


@asynccontextmanager
async def _behind_a_proxy(dsn: str) -> AsyncIterator[Cut]:
    with FaultProxy(dsn) as proxy:
        direct = await PostgresStore.open(dsn, rules=MasterRules())
        store = await PostgresStore.open(proxy.dsn(dsn), rules=MasterRules())
        try:
            worker = (await direct.register(Registration("w", 1, "here", ("",), WorkerMode.FULL))).worker
            (bucket,) = await direct.create_buckets(worker, [NewBucket("t", "here", "", 3)])
            await direct.fence(bucket.fence)
            await direct.push(bucket.id, [_job() for _ in KINDS])
            messages = (await direct.read(bucket.fence, None, limit=9, window_us=0)).messages
            yield Cut(proxy, store, direct, bucket, messages)
        finally:
            await store.close_store()
            await direct.close_store()


def _job() -> NewJob:
    return NewJob(new_job_key(), ENVELOPE, encode_envelope(ENVELOPE))


def _outcome(message: Message, status: JobStatus) -> Outcome:
    error = None if status is JobStatus.SUCCEEDED else ErrorInfo("E")
    return Outcome(
        message.key, 0, ENVELOPE, message.payload, message.due_us, status, 1, seq=message.seq, started_us=5,
        finished_us=9, error=error,
    )  # fmt: skip


@MOMENTS
@pytest.mark.parametrize("status", KINDS)
async def test_an_outcome_is_stored_once(postgres_database: str, moment: str, status: JobStatus) -> None:
    async with _behind_a_proxy(postgres_database) as cut:
        message = cut.messages[0]
        outcome = _outcome(message, status)
        cut.proxy.cut_next(moment)
        with pytest.raises(OutcomeUnknown):
            await cut.store.settle(cut.bucket.fence, [outcome])
        waiting = await cut.direct.depths([cut.bucket.id])
        assert waiting == {cut.bucket.id: 3 if moment == BEFORE else 2}
        (settled,) = await cut.store.settle(cut.bucket.fence, [outcome])
        # A retry that was stored is another assignment by now: repeated it is stale, and changes nothing.
        assert settled.done is (moment == BEFORE or status is not JobStatus.HELD_ON_MASTER)
        record = await cut.direct.get_job(message.key)
        assert record is not None
        assert (record.status, record.attempts) == (status, 1)
        assert record.gen == (1 if status is JobStatus.HELD_ON_MASTER else 0)
        attempts = await cut.direct.job_attempts(message.key)
        assert len(attempts) == (0 if status is JobStatus.SUCCEEDED else 1)
        assert await cut.direct.depths([cut.bucket.id]) == {cut.bucket.id: 2}


@MOMENTS
async def test_a_start_is_allowed_once_to_the_life_that_asked(postgres_database: str, moment: str) -> None:
    async with _behind_a_proxy(postgres_database) as cut:
        message = cut.messages[0]
        start = Start(
            message.key, 0, 7, ENVELOPE, message.payload, message.due_us, seq=message.seq, started_us=5, take_over=True
        )
        cut.proxy.cut_next(moment)
        with pytest.raises(OutcomeUnknown):
            await cut.store.take_over(cut.bucket.fence, [start])
        (verdict,) = await cut.store.take_over(cut.bucket.fence, [start])
        assert (verdict.yes, verdict.attempt, verdict.recoveries) == (True, 1, 0)
        assert await cut.direct.depths([cut.bucket.id]) == {cut.bucket.id: 2}


@MOMENTS
async def test_a_claim_whose_answer_was_lost_has_taken_its_jobs_all_the_same(
    postgres_database: str, moment: str
) -> None:
    async with _behind_a_proxy(postgres_database) as cut:
        await cut.direct.hold([_job(), _job()])
        request = ClaimRequest(cut.bucket.fence, "", 3, 9)
        cut.proxy.cut_next(moment)
        with pytest.raises(OutcomeUnknown):
            await cut.store.claim([request], window_us=0)
        claimed = await cut.store.claim([request], window_us=0)
        assert len(claimed.jobs) == (2 if moment == BEFORE else 0)
