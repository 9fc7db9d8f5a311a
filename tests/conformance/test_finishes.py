"""Outcomes of runs (R12), and letting go of what did not run or was interrupted (R21)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.job import ErrorInfo
from jobmaster.model.states import JobStatus
from jobmaster.ports.answers import Fenced
from jobmaster.ports.master import ClaimRequest
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of

BOOM = ErrorInfo("ValueError", "boom", "Traceback ...")


@case("success", "finish")
async def test_a_short_job_costs_one_row_that_is_final_from_its_birth(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    assert [one.done for one in await cluster.store.finish(bucket.fence, [outcome_of(message, result=b"42")])] == [True]
    row = await cluster.row(message.key)
    assert (row.status, row.result, row.attempts, row.worker) == (JobStatus.SUCCEEDED, b"42", 1, bucket.owner)
    assert (row.started_us, row.finished_us) == (NOON, NOON + SECOND)
    assert await cluster.store.job_attempts(message.key) == []


@case("success", "finish")
async def test_a_failed_job_keeps_its_error_and_its_attempt(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    failed = outcome_of(message, JobStatus.FAILED, error=BOOM, reason="exception", failures=1)
    await cluster.store.finish(bucket.fence, [failed])
    row = await cluster.row(message.key)
    assert (row.status, row.error, row.reason, row.failures) == (JobStatus.FAILED, BOOM, "exception", 1)
    (attempt,) = await cluster.store.job_attempts(message.key)
    assert (attempt.attempt, attempt.status, attempt.error, attempt.worker) == (1, JobStatus.FAILED, BOOM, bucket.owner)
    assert (attempt.bucket, attempt.started_us, attempt.finished_us) == (bucket.id, NOON, NOON + SECOND)


@case("success", "finish")
async def test_a_retry_waits_on_the_master_for_its_time(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    retry = outcome_of(message, JobStatus.HELD_ON_MASTER, error=BOOM, failures=1, delay_us=30 * SECOND)
    assert (await cluster.store.settle(bucket.fence, [retry]))[0].done
    row = await cluster.row(message.key)
    assert (row.status, row.gen, row.bucket) == (JobStatus.HELD_ON_MASTER, 1, None)
    assert (row.due_us, row.attempts, row.failures) == (NOON + 30 * SECOND, 1, 1)
    assert len(await cluster.store.job_attempts(message.key)) == 1
    assert (await cluster.claim(bucket)).jobs == []
    cluster.later(30)
    bucket = await cluster.owned("second")
    (job,) = (await cluster.claim(bucket)).jobs
    await cluster.store.start(bucket.fence, [start_of(job)])
    await cluster.store.finish(bucket.fence, [outcome_of(job, attempt=2, failures=1, result=b"1")])
    row = await cluster.row(message.key)
    assert (row.status, row.attempts, row.error) == (JobStatus.SUCCEEDED, 2, None)
    assert len(await cluster.store.job_attempts(message.key)) == 1


@case("conflict", "finish")
async def test_a_stale_fence_cannot_finish_a_job(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message, running = await cluster.message(bucket), await cluster.running(bucket)
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.finish(bucket.fence, [outcome_of(message), outcome_of(running)])
    assert await cluster.status(running.key) is JobStatus.PROCESSING
    assert await cluster.status(message.key) in {None, JobStatus.SAVE_PENDING}
    assert len(await cluster.messages(adopted)) == 2


@case("conflict", "finish")
async def test_an_outcome_of_the_right_epoch_and_the_wrong_owner_is_fenced(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    stranger = await cluster.worker("stranger")
    with pytest.raises(Fenced):
        await cluster.store.finish(bucket.fence._replace(owner=stranger), [outcome_of(message)])
    with pytest.raises(Fenced):
        await cluster.store.finish(bucket.fence._replace(epoch=2), [outcome_of(message)])


@case("conflict", "finish")
async def test_an_outcome_of_an_assignment_that_has_moved_on_is_stale(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.release(bucket.fence, [outcome_of(job)])
    (again,) = (await cluster.claim(bucket)).jobs
    assert not (await cluster.store.finish(bucket.fence, [outcome_of(job, result=b"old")]))[0].done
    assert await cluster.status(job.key) is JobStatus.QUEUED
    assert (await cluster.store.finish(bucket.fence, [outcome_of(again, result=b"new")]))[0].done
    assert (await cluster.row(job.key)).result == b"new"


@case("conflict", "finish")
async def test_a_final_state_is_final(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.finished(bucket, result=b"first")
    late = outcome_of(message, JobStatus.FAILED, error=BOOM, attempt=2)
    assert not (await cluster.store.finish(bucket.fence, [late]))[0].done
    row = await cluster.row(message.key)
    assert (row.status, row.result) == (JobStatus.SUCCEEDED, b"first")


@case("conflict", "finish")
async def test_a_waiting_job_that_was_cancelled_keeps_its_end(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.cancel(job.key)
    assert not (await cluster.store.finish(bucket.fence, [outcome_of(job)]))[0].done
    assert await cluster.status(job.key) is JobStatus.CANCELLED


async def test_a_run_that_ends_after_its_cancel_is_recorded_as_it_ended(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    await cluster.store.cancel(message.key)
    assert (await cluster.store.finish(bucket.fence, [outcome_of(message)]))[0].done
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


async def test_a_cancelled_job_is_not_tried_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    running, coalesced = await cluster.running(bucket), await cluster.message(bucket)
    await cluster.store.cancel(running.key)
    await cluster.store.cancel(coalesced.key)
    retries = [outcome_of(one, JobStatus.HELD_ON_MASTER, error=BOOM) for one in (running, coalesced)]
    await cluster.store.settle(bucket.fence, retries)
    for retry in retries:
        assert await cluster.status(retry.key) is JobStatus.CANCELLED


@case("repeat", "finish")
async def test_an_outcome_whose_reply_was_lost_counts_when_it_is_repeated(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    outcomes = [outcome_of(message, result=b"42") for message in await cluster.pushed(bucket, 3)]
    first = await cluster.store.finish(bucket.fence, outcomes)
    again = await cluster.store.finish(bucket.fence, [*outcomes, outcome_of(await cluster.message(bucket))])
    assert [one.done for one in first] == [True] * 3
    assert [one.done for one in again] == [True] * 4


@case("repeat", "finish")
async def test_a_retry_whose_reply_was_lost_is_not_applied_twice(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    retry = outcome_of(message, JobStatus.HELD_ON_MASTER, error=BOOM, failures=1)
    await cluster.store.finish(bucket.fence, [retry])
    await cluster.store.finish(bucket.fence, [retry])
    row = await cluster.row(message.key)
    assert (row.gen, row.attempts, row.failures) == (1, 1, 1)
    assert len(await cluster.store.job_attempts(message.key)) == 1


async def test_a_run_whose_process_died_is_a_recovery_with_or_without_a_row(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    for number, message in enumerate([await cluster.running(bucket), await cluster.message(bucket)]):
        crash = outcome_of(
            message, JobStatus.HELD_ON_MASTER, error=BOOM, reason="worker lost", failures=2, recovered=True
        )
        for _ in range(2):  # its reply may be lost
            await cluster.store.finish(bucket.fence, [crash])
        row = await cluster.row(message.key)
        assert (row.status, row.attempts, row.failures, row.recoveries) == (JobStatus.HELD_ON_MASTER, 1, 2, 1), number
        (attempt,) = await cluster.store.job_attempts(message.key)
        assert (attempt.attempt, attempt.reason, attempt.error) == (1, "worker lost", BOOM)
    claimed = await cluster.store.claim([ClaimRequest(bucket.fence, bucket.lane, bucket.priority, 9)], window_us=0)
    assert [(job.suspect, job.recoveries) for job in claimed.jobs] == [(True, 1)] * 2


@case("race", "finish")
async def test_of_two_outcomes_of_one_run_at_once_one_is_kept(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    message = await cluster.running(bucket)
    settled = await asyncio.gather(
        cluster.store.finish(bucket.fence, [outcome_of(message, result=b"a", attempt=1)]),
        other.finish(bucket.fence, [outcome_of(message, result=b"b", attempt=2)]),
    )
    done = [one.done for (one,) in settled]
    assert sorted(done) == [False, True]
    assert (await cluster.row(message.key)).result == (b"a" if done[0] else b"b")


@case("race", "finish")
async def test_a_finish_beside_an_adoption_counts_or_is_fenced(cluster: Cluster) -> None:
    bucket = await cluster.owned("dead")
    message = await cluster.running(bucket)
    cluster.later(11)
    other = await cluster.other()
    settled, _ = await asyncio.gather(
        cluster.store.finish(bucket.fence, [outcome_of(message)]), other.mark_lost(), return_exceptions=True
    )
    expected = JobStatus.PROCESSING if isinstance(settled, Fenced) else JobStatus.SUCCEEDED
    assert await cluster.status(message.key) is expected


async def test_an_outcome_keeps_the_checkpoint_of_an_earlier_attempt(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.finish(bucket.fence, [outcome_of(job, JobStatus.HELD_ON_MASTER, checkpoint=b"7")])
    (job,) = (await cluster.claim(bucket)).jobs
    await cluster.store.finish(bucket.fence, [outcome_of(job, JobStatus.HELD_ON_MASTER, attempt=2)])
    (job,) = (await cluster.claim(bucket)).jobs
    assert job.checkpoint == b"7"


# -- release (R21)


@case("success", "release")
async def test_waiting_jobs_are_released_without_spending_anything(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message, claimed = await cluster.message(bucket), await cluster.claimed(bucket)
    due = NOON + 3 * SECOND
    await cluster.store.release(
        bucket.fence, [outcome_of(message, attempt=0, due_us=due), outcome_of(claimed, attempt=0, reason="unroutable")]
    )
    one, two = await cluster.row(message.key), await cluster.row(claimed.key)
    assert (one.status, one.gen, one.bucket, one.due_us) == (JobStatus.HELD_ON_MASTER, 1, None, due)
    assert (two.status, two.gen, two.reason) == (JobStatus.HELD_ON_MASTER, 2, "unroutable")
    assert {(row.attempts, row.failures, row.recoveries) for row in (one, two)} == {(0, 0, 0)}


@case("conflict", "release")
async def test_a_release_never_touches_a_run_or_what_has_moved_on(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    running, ended = await cluster.running(bucket), await cluster.finished(bucket)
    moved = await cluster.claimed(bucket)
    await cluster.store.release(bucket.fence, [outcome_of(moved)])
    (again,) = (await cluster.claim(bucket)).jobs
    await cluster.store.release(bucket.fence, [outcome_of(running), outcome_of(ended), outcome_of(moved)])
    assert await cluster.status(running.key) is JobStatus.PROCESSING
    assert await cluster.status(ended.key) is JobStatus.SUCCEEDED
    assert (await cluster.row(again.key)).gen == again.gen
    await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.release(bucket.fence, [outcome_of(again)])


@case("repeat", "release")
async def test_releasing_again_changes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    for _ in range(2):
        await cluster.store.release(bucket.fence, [outcome_of(job)])
    assert (await cluster.row(job.key)).gen == job.gen + 1


@case("race", "release")
async def test_a_release_beside_a_start_lets_one_of_them_win(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    job = await cluster.claimed(bucket)
    (verdict,), _ = await asyncio.gather(
        cluster.store.start(bucket.fence, [start_of(job)]), other.release(bucket.fence, [outcome_of(job)])
    )
    expected = JobStatus.PROCESSING if verdict.yes else JobStatus.HELD_ON_MASTER
    assert await cluster.status(job.key) is expected


# -- hand_back (graceful stop)


@case("success", "hand_back")
async def test_interrupted_runs_are_handed_back_and_spend_no_attempt(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    running, coalesced = await cluster.running(bucket), await cluster.message(bucket)
    cluster.later(4)
    await cluster.store.hand_back(bucket.fence, [outcome_of(running, checkpoint=b"7"), outcome_of(coalesced)])
    for key in (running.key, coalesced.key):
        row = await cluster.row(key)
        assert (row.status, row.gen, row.bucket, row.due_us) == (JobStatus.HELD_ON_MASTER, 1, None, cluster.now_us)
        assert (row.attempts, row.failures, row.recoveries) == (0, 0, 0)
        (attempt,) = await cluster.store.job_attempts(key)
        assert (attempt.attempt, attempt.status, attempt.reason) == (1, JobStatus.HELD_ON_MASTER, "handed back")
        assert (attempt.worker, attempt.bucket) == (bucket.owner, bucket.id)
        assert (attempt.started_us, attempt.finished_us) == (outcome_of(running).started_us, cluster.now_us)
    jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    assert {job.suspect for job in jobs.values()} == {False}
    assert jobs[running.key].checkpoint == b"7"


@case("conflict", "hand_back")
async def test_what_has_ended_or_moved_on_is_not_handed_back(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    ended = await cluster.finished(bucket)
    job = await cluster.claimed(bucket)
    await cluster.store.release(bucket.fence, [outcome_of(job)])
    (again,) = (await cluster.claim(bucket)).jobs
    await cluster.store.start(bucket.fence, [start_of(again)])
    await cluster.store.hand_back(bucket.fence, [outcome_of(ended), outcome_of(job)])
    assert await cluster.status(ended.key) is JobStatus.SUCCEEDED
    assert await cluster.status(job.key) is JobStatus.PROCESSING
    await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.hand_back(bucket.fence, [outcome_of(again)])


@case("repeat", "hand_back")
async def test_handing_back_again_changes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    for _ in range(2):
        await cluster.store.hand_back(bucket.fence, [outcome_of(message)])
    row = await cluster.row(message.key)
    assert (row.gen, row.attempts) == (1, 0)


@case("race", "hand_back")
async def test_handing_back_beside_a_finish_lets_one_of_them_win(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    message = await cluster.running(bucket)
    (settled,), _ = await asyncio.gather(
        cluster.store.finish(bucket.fence, [outcome_of(message)]), other.hand_back(bucket.fence, [outcome_of(message)])
    )
    expected = JobStatus.SUCCEEDED if settled.done else JobStatus.HELD_ON_MASTER
    assert await cluster.status(message.key) is expected
