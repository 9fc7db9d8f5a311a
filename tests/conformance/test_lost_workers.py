"""Leases that end: buckets are lost, and who is to blame is remembered (R15)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.job import Blame
from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.model.worker import WorkerStatus
from jobmaster.ports.answers import Fenced
from tests.conformance.cases import case
from tests.conformance.cluster import SECOND, Cluster, outcome_of, start_of

LEASE = 10 * SECOND


@case("success", "mark_lost")
async def test_the_buckets_of_a_silent_worker_are_lost_when_its_lease_has_ended(cluster: Cluster) -> None:
    silent, alive = await cluster.owned("silent"), await cluster.owned("alive")
    cluster.later(9)
    await cluster.renew(alive.owner or 0)
    assert await cluster.store.mark_lost() == []
    cluster.later(1)
    (lost,) = await cluster.store.mark_lost()
    assert (lost.id, lost.owner, lost.epoch, lost.status, lost.clean) == (silent.id, None, 2, BucketStatus.LOST, False)
    assert (await cluster.bucket_now(alive)).epoch == 1


async def test_nobody_is_judged_by_a_time_in_which_nobody_could_renew(cluster: Cluster) -> None:
    before, during, ended = [await cluster.owned(name) for name in ("before", "during", "ended")]
    cluster.later(4)
    await cluster.renew(during.owner or 0)
    await cluster.renew(ended.owner or 0)
    await cluster.store.end_worker(ended.owner or 0)
    cluster.later(20)
    asked_us = cluster.now_us - 15 * SECOND
    assert await cluster.store.mark_lost(as_of_us=asked_us) == []
    (lost,) = await cluster.store.mark_lost(as_of_us=asked_us + 2 * SECOND)
    assert lost.id == before.id
    (lost,) = await cluster.store.mark_lost(as_of_us=cluster.now_us + 100 * SECOND)
    assert lost.id == during.id


@case("conflict", "mark_lost")
async def test_buckets_without_an_owner_are_not_lost(cluster: Cluster) -> None:
    await cluster.store.offer_bucket(cluster.new_bucket())
    cluster.later(100)
    assert await cluster.store.mark_lost() == []


@case("repeat", "mark_lost")
async def test_marking_again_raises_no_epoch_twice(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cluster.later(11)
    assert len(await cluster.store.mark_lost()) == 1
    assert await cluster.store.mark_lost() == []
    assert (await cluster.bucket_now(bucket)).epoch == 2


@case("race", "mark_lost")
async def test_two_coordinators_mark_a_bucket_once(cluster: Cluster) -> None:
    others = [await cluster.other() for _ in range(3)]
    for _ in range(5):  # they meet at one row in most of these
        bucket = await cluster.owned()
        cluster.later(11)
        marked = await asyncio.gather(cluster.store.mark_lost(), *(other.mark_lost() for other in others))
        assert sorted(len(lost) for lost in marked) == [0, 0, 0, 1]
        assert (await cluster.bucket_now(bucket)).epoch == 2


async def test_the_drain_of_a_dead_drainer_is_lost_too(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    cluster.later(11)
    (lost,) = await cluster.store.mark_lost()
    assert (lost.id, lost.status, lost.epoch) == (draining.id, BucketStatus.LOST, draining.epoch + 1)


async def test_at_most_limit_buckets_are_marked(cluster: Cluster) -> None:
    worker = await cluster.worker()
    for _ in range(3):
        await cluster.bucket(worker)
    cluster.later(11)
    assert [len(await cluster.store.mark_lost(limit=2)) for _ in range(3)] == [2, 1, 0]


@case("success", "end_worker")
async def test_an_ended_workers_buckets_are_lost_at_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.end_worker(bucket.owner or 0)
    lost = await cluster.bucket_now(bucket)
    assert (lost.status, lost.owner, lost.epoch, lost.clean) == (BucketStatus.LOST, None, 2, False)
    (record,) = await cluster.store.list_workers()
    assert record.status is WorkerStatus.DEAD
    with pytest.raises(Fenced):
        await cluster.store.start(bucket.fence, [])


@case("conflict", "end_worker")
async def test_ending_an_unknown_worker_or_a_dead_one_disturbs_nobody(cluster: Cluster) -> None:
    dead = await cluster.owned("dead")
    adopted = await cluster.adopted(dead)
    await cluster.store.end_worker(dead.owner or 0)
    await cluster.store.end_worker(999)
    assert await cluster.bucket_now(adopted) == adopted


@case("repeat", "end_worker")
async def test_evidence_counts_once_however_often_it_is_reported(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    blame = [Blame(job.key, "SIGSEGV")]
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    assert (await cluster.row(job.key)).recoveries == 1
    (again,) = (await cluster.claim(adopted)).jobs
    assert (again.recoveries, again.suspect) == (1, True)
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    await cluster.store.start(adopted.fence, [start_of(again)])
    assert (await cluster.row(job.key)).recoveries == 1


@case("conflict", "end_worker")
async def test_evidence_that_comes_after_the_recovery_is_not_counted_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.start(bucket.fence, [start_of(job)])
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(job.key, "SIGKILL")])
    (again,) = (await cluster.claim(adopted)).jobs
    await cluster.store.start(adopted.fence, [start_of(again)])
    assert (await cluster.row(job.key)).recoveries == 1


@case("race", "end_worker")
async def test_an_end_beside_a_finish_lets_one_of_them_win(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    other = await cluster.other()
    settled, _ = await asyncio.gather(
        cluster.store.settle(bucket.fence, [outcome_of(message)]),
        other.end_worker(bucket.owner or 0),
        return_exceptions=True,
    )
    left = await cluster.store.depths([bucket.id])
    if isinstance(settled, Fenced):
        assert left == {bucket.id: 1}
    else:
        assert ([answer.done for answer in settled], left) == ([True], {bucket.id: 0})


async def test_who_ran_beside_the_job_that_is_to_blame_is_excused(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    killer, beside = await cluster.running(bucket), await cluster.running(bucket)
    testimony = [Blame(killer.key, "SIGSEGV")]
    for _ in range(2):
        await cluster.store.end_worker(bucket.owner or 0, blame=testimony)
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    assert ((await cluster.row(killer.key)).recoveries, (await cluster.row(beside.key)).recoveries) == (1, 0)
    (attempt,) = await cluster.store.job_attempts(beside.key)
    assert attempt.reason == "worker lost"
    assert [len(await cluster.store.job_attempts(killer.key)), await cluster.status(beside.key)] == [
        1, JobStatus.HELD_ON_MASTER,
    ]  # fmt: skip


async def test_an_empty_testimony_excuses_every_run_and_none_at_all_excuses_nobody(cluster: Cluster) -> None:
    seen, unseen = await cluster.owned("seen"), await cluster.owned("unseen")
    excused, counted = await cluster.running(seen), await cluster.running(unseen)
    await cluster.store.end_worker(seen.owner or 0, blame=[])
    await cluster.store.end_worker(unseen.owner or 0)
    heir = await cluster.worker("heir")
    for bucket in (await cluster.renew(heir, adopt=2)).buckets:
        await cluster.store.recover_before(bucket.fence, adopted_us=bucket.adopted_us + 1, limit=10)
    assert (await cluster.row(excused.key)).recoveries == 0
    assert (await cluster.row(counted.key)).recoveries == 1


async def test_an_excuse_comes_in_time_after_the_bucket_was_marked_lost(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    beside = await cluster.running(bucket)
    await cluster.lose(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[])
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    assert (await cluster.row(beside.key)).recoveries == 0


async def test_an_excuse_holds_for_one_recovery_only(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket, nonce=1)
    await cluster.lose(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[])
    answers = []
    for nonce in (2, 3):
        bucket = await cluster.adopted(bucket, f"heir{nonce}")
        (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, nonce=nonce)])
        answers.append((verdict.yes, verdict.attempt, verdict.recoveries))
    assert answers == [(True, 2, 0), (True, 3, 1)]


async def test_a_job_that_only_its_message_knew_is_counted_when_its_process_died(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.lose(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(message.key, "SIGKILL")])
    adopted = await cluster.adopted(bucket)
    (verdict,) = await cluster.store.start(adopted.fence, [start_of(message)])
    assert (verdict.yes, verdict.recoveries, verdict.attempt) == (True, 1, 2)
    assert (await cluster.row(message.key)).attempts == 2
    (unnoted,) = await cluster.store.job_attempts(message.key)
    assert (unnoted.attempt, unnoted.worker, unnoted.reason) == (1, bucket.owner, "worker lost")
    assert "SIGKILL" in unnoted.error.message


async def test_a_run_that_no_row_has_noted_is_an_attempt_when_its_process_died(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(job.key, "SIGSEGV")])
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    (unnoted,) = await cluster.store.job_attempts(job.key)
    assert (unnoted.attempt, unnoted.worker, unnoted.started_us) == (1, bucket.owner, None)
    (again,) = (await cluster.claim(adopted)).jobs
    (verdict,) = await cluster.store.start(adopted.fence, [start_of(again)])
    assert (verdict.attempt, verdict.recoveries) == (2, 1)


@case("success", "end_worker")
async def test_who_ran_in_a_dead_process_is_claimed_by_others_before_anybody_adopts(cluster: Cluster) -> None:
    """Of what only its message knew this is true where messages and rows are one database."""
    bucket, other = await cluster.owned(), await cluster.owned("other")
    running, unnoted, waiting = await cluster.running(bucket), *(await cluster.pushed(bucket, 2))
    claimed = await cluster.claimed(bucket)
    blame = [Blame(key, "SIGKILL") for key in (running.key, unnoted.key, claimed.key)]
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    ran = {running.key, claimed.key, *((unnoted.key,) if cluster.store.standalone else ())}
    jobs = (await cluster.claim(other)).jobs
    assert {job.key for job in jobs} == ran
    assert {(job.recoveries, job.attempts, job.suspect) for job in jobs} == {(1, 1, True)}
    for job in jobs:
        (attempt,) = await cluster.store.job_attempts(job.key)
        assert (attempt.attempt, attempt.worker, attempt.reason) == (1, bucket.owner, "worker lost")
    adopted = await cluster.adopted(bucket)
    assert await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10) == 0
    left = {message.key for message in await cluster.messages(adopted)}
    assert left == ({waiting.key} if cluster.store.standalone else {waiting.key, running.key, unnoted.key})


async def test_what_must_not_start_again_does_not_when_its_process_died(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    once = await cluster.running(bucket, at_most_once=True)
    cancelled, never = await cluster.message(bucket), await cluster.message(bucket, at_most_once=True)
    await cluster.store.cancel(cancelled.key)
    blame = [Blame(key, "SIGKILL") for key in (once.key, cancelled.key, never.key)]
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    assert await cluster.status(once.key) is JobStatus.FAILED
    assert await cluster.status(cancelled.key) in {None, JobStatus.SAVE_PENDING, JobStatus.CANCELLED}
    other = await cluster.owned("other")
    assert (await cluster.claim(other)).jobs == []


async def test_a_testimony_leaves_alone_what_is_in_another_owners_hands(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    running, unnoted = await cluster.running(bucket), await cluster.message(bucket)
    adopted = await cluster.adopted(bucket)
    blame = [Blame(key, "SIGKILL") for key in (running.key, unnoted.key)]
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    assert await cluster.status(running.key) is JobStatus.PROCESSING
    assert {message.key for message in await cluster.messages(adopted)} == {running.key, unnoted.key}
