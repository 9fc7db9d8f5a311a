"""Guarded starts and early rows (R10, R11)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.job import Blame
from jobmaster.model.states import JobStatus
from jobmaster.ports.answers import Fenced
from tests.conformance.cases import case
from tests.conformance.cluster import HOPELESS, NOON, Cluster, outcome_of, start_of


@case("success", "start")
async def test_the_start_of_a_message_without_a_row_inserts_its_run(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket, lane="", priority=3, metadata={"a": 1})
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(message)])
    assert (verdict.yes, verdict.attempt, verdict.recoveries) == (True, 1, 0)
    row = await cluster.row(message.key)
    assert (row.status, row.gen, row.bucket, row.worker) == (JobStatus.PROCESSING, 0, bucket.id, bucket.owner)
    assert (row.attempts, row.started_us, row.envelope.metadata) == (1, NOON, {"a": 1})


@case("success", "start")
async def test_a_claimed_job_becomes_processing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(job)])
    assert (verdict.yes, verdict.attempt) == (True, 1)
    assert (await cluster.row(job.key)).attempts == 1
    assert await cluster.status(job.key) is JobStatus.PROCESSING


@case("success", "start")
async def test_an_early_row_says_that_a_job_waits_in_memory(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, status=JobStatus.QUEUED)])
    assert verdict.yes
    row = await cluster.row(message.key)
    assert (row.status, row.attempts, row.started_us) == (JobStatus.QUEUED, 0, None)
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(message)])
    assert (verdict.yes, verdict.attempt) == (True, 1)
    assert (await cluster.row(message.key)).attempts == 1


@case("conflict", "start")
async def test_a_stale_fence_cannot_start_a_job(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.start(bucket.fence, [start_of(message)])
    assert await cluster.status(message.key) in {None, JobStatus.SAVE_PENDING}


@case("conflict", "start")
async def test_a_job_that_has_ended_or_moved_on_is_not_started(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    ended, retried = await cluster.pushed(bucket, 2)
    await cluster.store.finish(bucket.fence, [outcome_of(ended), outcome_of(retried, JobStatus.HELD_ON_MASTER)])
    verdicts = await cluster.store.start(bucket.fence, [start_of(ended), start_of(retried)])
    assert [verdict.yes for verdict in verdicts] == [False, False]
    assert await cluster.status(retried.key) is JobStatus.HELD_ON_MASTER


@case("conflict", "start")
async def test_a_job_of_another_bucket_is_not_started(cluster: Cluster) -> None:
    one, two = await cluster.owned("one"), await cluster.owned("two")
    job = await cluster.claimed(one)
    (verdict,) = await cluster.store.start(two.fence, [start_of(job)])
    assert not verdict.yes
    assert (await cluster.row(job.key)).bucket == one.id


@case("conflict", "start")
async def test_a_cancelled_job_is_not_started_wherever_it_waited(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message, claimed = await cluster.message(bucket), await cluster.claimed(bucket)
    await cluster.store.cancel(message.key)
    await cluster.store.cancel(claimed.key)
    verdicts = await cluster.store.start(bucket.fence, [start_of(message), start_of(claimed)])
    assert [verdict.yes for verdict in verdicts] == [False, False]
    assert await cluster.status(message.key) is JobStatus.CANCELLED
    assert await cluster.status(claimed.key) is JobStatus.CANCELLED


@case("repeat", "start")
async def test_a_start_whose_reply_was_lost_is_answered_yes_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    first = await cluster.store.start(bucket.fence, [start_of(message, nonce=7)])
    assert await cluster.store.start(bucket.fence, [start_of(message, nonce=7)]) == first
    row = await cluster.row(message.key)
    assert (row.attempts, row.recoveries) == (1, 0)


@case("repeat", "start")
async def test_a_late_early_row_does_not_undo_the_start(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket, nonce=7)
    await cluster.store.start(bucket.fence, [start_of(message, nonce=7, status=JobStatus.QUEUED)])
    assert await cluster.status(message.key) is JobStatus.PROCESSING


async def test_a_new_life_that_starts_a_running_job_again_counts_a_recovery(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket, nonce=1)
    bucket = await cluster.adopted(bucket)
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, nonce=2)])
    assert (verdict.yes, verdict.attempt, verdict.recoveries) == (True, 2, 1)
    (lost,) = await cluster.store.job_attempts(message.key)
    assert (lost.attempt, lost.status, lost.reason) == (1, JobStatus.FAILED, "worker lost")
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, nonce=2)])
    assert (verdict.attempt, verdict.recoveries) == (2, 1)


async def test_a_worker_that_starts_its_own_run_again_counts_none(cluster: Cluster) -> None:
    """The answer to its first start was lost: it lives, so nobody has died."""
    bucket = await cluster.owned()
    message = await cluster.running(bucket, nonce=1)
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, nonce=2)])
    assert (verdict.yes, verdict.attempt, verdict.recoveries) == (True, 2, 0)
    (lost,) = await cluster.store.job_attempts(message.key)
    assert (lost.attempt, lost.status, lost.reason) == (1, JobStatus.FAILED, "taken back")


async def test_a_new_life_does_not_start_an_at_most_once_job_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket, nonce=1, at_most_once=True)
    (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, nonce=2)])
    assert not verdict.yes
    row = await cluster.row(message.key)
    assert (row.status, row.reason) == (JobStatus.FAILED, "worker lost")


async def test_a_job_that_kills_every_life_is_quarantined(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket, nonce=0)
    answers = []
    for nonce in range(1, HOPELESS + 1):
        bucket = await cluster.adopted(bucket, f"heir{nonce}")
        (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, nonce=nonce)])
        answers.append(verdict.yes)
    assert answers == [True] * (HOPELESS - 1) + [False]
    row = await cluster.row(message.key)
    assert (row.status, row.reason, row.recoveries) == (JobStatus.FAILED, "quarantined", HOPELESS)
    assert row.error.type == "jobmaster.errors.WorkerLostError"


async def test_evidence_against_waiting_jobs_leads_to_quarantine_with_its_reason(cluster: Cluster) -> None:
    bucket = await cluster.owned("w0")
    job = await cluster.claimed(bucket)
    for number in range(1, HOPELESS + 1):
        await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(job.key, "SIGSEGV")])
        bucket = await cluster.adopted(bucket, f"w{number}")
        await cluster.store.recover_before(bucket.fence, adopted_us=bucket.adopted_us + 1, limit=10)
        jobs = (await cluster.claim(bucket)).jobs
        job = jobs[0] if jobs else job
    row = await cluster.row(job.key)
    assert (row.status, row.reason, row.recoveries) == (JobStatus.FAILED, "quarantined", HOPELESS)
    assert "SIGSEGV" in row.error.message


@case("race", "start")
async def test_of_two_lives_that_start_one_job_at_once_one_counts_as_the_second(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    message = await cluster.message(bucket, at_most_once=True)
    verdicts = await asyncio.gather(
        cluster.store.start(bucket.fence, [start_of(message, nonce=1)]),
        other.start(bucket.fence, [start_of(message, nonce=2)]),
    )
    assert sorted(verdict.yes for (verdict,) in verdicts) == [False, True]


@case("race", "start", "cancel")
async def test_cancel_against_start_is_decided_by_one_write(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    for _ in range(5):
        job = await cluster.claimed(bucket, at_most_once=True)
        (verdict,), reply = await asyncio.gather(
            cluster.store.start(bucket.fence, [start_of(job)]), other.cancel(job.key)
        )
        status = await cluster.status(job.key)
        assert (verdict.yes, reply.outcome.value, status) in {
            (True, "requested", JobStatus.PROCESSING),
            (False, "cancelled", JobStatus.CANCELLED),
        }
