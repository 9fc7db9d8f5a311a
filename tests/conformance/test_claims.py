"""Held jobs are claimed by the owners of buckets (R14'), and what nobody can run is swept (R17', I5)."""

from __future__ import annotations

import asyncio

from jobmaster.model.states import JobStatus
from jobmaster.ports.master import ClaimRequest
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of


@case("success", "claim")
async def test_due_jobs_of_the_buckets_lane_and_priority_are_claimed_by_their_time(cluster: Cluster) -> None:
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    third, first, second = [cluster.job(lane="mail", priority=4, due_us=NOON - n * SECOND) for n in (1, 9, 5)]
    await cluster.store.hold([third, first, second, cluster.job(lane="mail"), cluster.job(priority=4)])
    claimed = await cluster.claim(bucket)
    assert [job.key for job in claimed.jobs] == [first.key, second.key, third.key]
    job = claimed.jobs[0]
    assert (job.gen, job.bucket, job.payload, job.due_us) == (1, bucket.id, first.payload, NOON - 9 * SECOND)
    assert (job.attempts, job.failures, job.recoveries, job.suspect) == (0, 0, 0, False)
    assert (claimed.now_us, claimed.taken_us, claimed.next_due_us, claimed.fenced) == (NOON, NOON, None, [])
    row = await cluster.row(first.key)
    assert (row.status, row.gen, row.bucket, row.worker) == (JobStatus.QUEUED, 1, bucket.id, bucket.owner)


@case("success", "claim")
async def test_a_claim_says_when_the_next_job_falls_due(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.held(due_in=10)
    await cluster.held(due_in=100)
    await cluster.held(due_in=1, lane="mail")
    claimed = await cluster.claim(bucket, window=5)
    assert (claimed.jobs, claimed.next_due_us) == ([], NOON + 10 * SECOND)
    claimed = await cluster.claim(bucket, window=15)
    assert (len(claimed.jobs), claimed.next_due_us) == (1, NOON + 100 * SECOND)


@case("success", "claim")
async def test_a_claim_takes_no_more_than_it_may(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.held(5)
    assert [len((await cluster.claim(bucket, limit=2)).jobs) for _ in range(4)] == [2, 2, 1, 0]


@case("success", "claim")
async def test_one_call_claims_for_several_buckets(cluster: Cluster) -> None:
    worker = await cluster.worker()
    low, high = await cluster.bucket(worker, priority=2), await cluster.bucket(worker, priority=5)
    await cluster.held(2, priority=2)
    await cluster.held(1, priority=5)
    requests = [ClaimRequest(bucket.fence, "", bucket.priority, 10) for bucket in (low, high)]
    claimed = await cluster.store.claim(requests, window_us=0)
    assert sorted(job.bucket for job in claimed.jobs) == [low.id, low.id, high.id]


@case("conflict", "claim")
async def test_a_lost_bucket_claims_nothing_and_the_others_do(cluster: Cluster) -> None:
    worker = await cluster.worker()
    lost, kept = await cluster.bucket(worker), await cluster.bucket(worker, priority=5)
    await cluster.held()
    await cluster.held(priority=5)
    await cluster.store.give_up(lost.fence)
    requests = [ClaimRequest(bucket.fence, "", bucket.priority, 10) for bucket in (lost, kept)]
    claimed = await cluster.store.claim(requests, window_us=0)
    assert (claimed.fenced, [job.bucket for job in claimed.jobs]) == ([lost.id], [kept.id])


@case("repeat", "claim")
async def test_claiming_again_gives_other_jobs(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.held(3)
    first = await cluster.claim(bucket)
    second = await cluster.claim(bucket)
    assert (len(first.jobs), second.jobs) == (3, [])


@case("race", "claim")
async def test_claims_at_once_give_each_job_to_one_owner(cluster: Cluster) -> None:
    one, two = await cluster.owned("one"), await cluster.owned("two")
    other = await cluster.other()
    jobs = await cluster.held(20)
    requests = [[ClaimRequest(bucket.fence, "", 3, 15)] for bucket in (one, two)]
    answers = await asyncio.gather(cluster.store.claim(requests[0], window_us=0), other.claim(requests[1], window_us=0))
    keys = [job.key for answer in answers for job in answer.jobs]
    assert len(keys) == len(set(keys))
    rest = await cluster.claim(one)
    assert {job.key for job in jobs} == {*keys, *(job.key for job in rest.jobs)}


async def test_each_claim_is_an_assignment_of_its_own(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.set_free(bucket.fence, [outcome_of(job, JobStatus.HELD_ON_MASTER)], ended=False)
    (again,) = (await cluster.claim(bucket)).jobs
    assert again.gen > job.gen
    (late,) = await cluster.store.settle(bucket.fence, [outcome_of(job)])
    assert not late.done
    assert await cluster.status(job.key) is JobStatus.QUEUED


async def test_a_copy_that_waits_as_a_message_is_not_the_assignment_that_was_claimed(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.store.hold([cluster.job(key=message.key, verify=True)])
    (claimed,) = (await cluster.claim(bucket)).jobs
    (verdict,) = await cluster.store.take_over(bucket.fence, [start_of(message)])
    assert not verdict.yes
    assert await cluster.status(message.key) is JobStatus.QUEUED
    assert (await cluster.store.start(bucket.fence, [start_of(claimed, nonce=2)]))[0].yes


async def test_a_claimed_job_brings_what_its_earlier_attempts_left(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.start(bucket.fence, [start_of(job)])
    retry = outcome_of(job, JobStatus.HELD_ON_MASTER, failures=1, checkpoint=b"page 3")
    await cluster.store.settle(bucket.fence, [retry])
    (again,) = (await cluster.claim(bucket)).jobs
    assert (again.attempts, again.failures, again.checkpoint, again.gen) == (1, 1, b"page 3", 3)


@case("success", "sweep")
async def test_a_held_job_past_its_deadline_has_failed_as_expired(cluster: Cluster) -> None:
    (expired,) = await cluster.held(expires_us=NOON + 5 * SECOND, due_in=60)
    (waiting,) = await cluster.held(expires_us=NOON + 50 * SECOND, due_in=60)
    cluster.later(6)
    assert await cluster.store.sweep(overdue_us=0, limit=10) == 1
    row = await cluster.row(expired.key)
    assert (row.status, row.reason, row.finished_us) == (JobStatus.FAILED, "expired", cluster.now_us)
    assert await cluster.status(waiting.key) is JobStatus.HELD_ON_MASTER


@case("conflict", "sweep")
async def test_a_sweep_leaves_jobs_of_living_and_of_lost_buckets_alone(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket, expires_us=NOON + SECOND)
    cluster.later(30)
    await cluster.store.mark_lost()
    assert await cluster.store.sweep(overdue_us=0, limit=10) == 0
    assert await cluster.status(job.key) is JobStatus.QUEUED


@case("repeat", "sweep")
async def test_sweeping_goes_on_in_bounded_steps(cluster: Cluster) -> None:
    await cluster.held(5, expires_us=NOON + SECOND)
    cluster.later(2)
    assert [await cluster.store.sweep(overdue_us=0, limit=2) for _ in range(4)] == [2, 2, 1, 0]


@case("race", "sweep")
async def test_a_sweep_beside_a_claim_ends_a_job_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (job,) = await cluster.held(expires_us=NOON + SECOND)
    cluster.later(2)
    other = await cluster.other()
    claimed, swept = await asyncio.gather(cluster.claim(bucket), other.sweep(overdue_us=0, limit=10))
    assert len(claimed.jobs) + swept == 1
    assert await cluster.status(job.key) is (JobStatus.QUEUED if claimed.jobs else JobStatus.FAILED)
